"""The site of the docs: all pages are on it, every link leads somewhere, and a reader's browser asks nobody else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ASKED_FOR = re.compile(r"""<(?:link|script|img|iframe)\b[^>]*?\b(?:href|src)=["']?(?:https?:)?//""")
_IN_STYLES = re.compile(r"url\([\"']?(?:https?:)?//|@import")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


def test_every_page_of_the_docs_is_on_the_site(site: Path) -> None:
    written = [page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")]

    pages = [str(page.with_name("index") if page.name == "README" else page) for page in written]

    assert not [page for page in (*pages, "index", "contributing", "changelog") if not (site / f"{page}.html").exists()]


def test_a_browser_asks_nobody_outside(site: Path) -> None:
    assert not [page for page in site.rglob("*.html") if _ASKED_FOR.search(page.read_text("utf-8"))]
    assert not [style for style in site.rglob("*.css") if _IN_STYLES.search(style.read_text("utf-8"))]


def test_links_to_code_are_names_and_links_between_pages_are_links(site: Path) -> None:
    guarantees = (site / "guarantees.html").read_text("utf-8")

    assert 'href="adr/0004-run-again-or-run-together.html"' in guarantees
    assert 'href="../' not in guarantees
