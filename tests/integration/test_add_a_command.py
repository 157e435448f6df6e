"""The steps of the page on adding a command are taken, on a copy of the project, and lead where the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/add-a-command.md"
NEW_TEST = "tests/unit/test_recall.py"
MOST_SOURCE_FILES = 9
"""For a command with its event, its refusal and its route."""
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "var", "build", "dist", ".*_cache", ".hypothesis")
_BLOCK = re.compile(r"^```(python|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Copy:
    def __init__(self, folder: Path) -> None:
        self._folder = shutil.copytree(ROOT, folder / "copy", ignore=_NOT_COPIED)
        self._environment = os.environ | {"PYTHONPATH": str(self._folder / "src")}

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text, "utf-8")

    def change(self, difference: str) -> None:
        applied = subprocess.run(
            ["git", "apply", "--unidiff-zero", "-"],
            cwd=self._folder,
            input=difference,
            capture_output=True,
            text=True,
            check=False,
        )
        assert applied.returncode == 0, f"{applied.stderr}\n{difference}"

    def run(self, *module_and_arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", *module_and_arguments],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)  # it runs a part of the suite itself
def test_the_steps_lead_where_the_page_says(copy: Copy) -> None:
    pytest_quietly = ("pytest", "-q", "-p", "no:cacheprovider")
    blocks = _BLOCK.findall(PAGE.read_text("utf-8"))
    assert [kind for kind, _ in blocks] == ["python", *["diff"] * 7]

    [(_, test), *changes] = blocks
    copy.write(NEW_TEST, test)
    assert "cannot import name 'RecallBatch'" in copy.run(*pytest_quietly, NEW_TEST)[1]
    for number, (_, change) in enumerate(changes, start=1):
        copy.change(change)
        if number == 5:
            assert copy.run(*pytest_quietly, NEW_TEST)[0] == 0, "the page says that the test is green now"
    assert copy.run("tests.catalogue") == (0, "")

    concerned = ("access", "catalogue", "codec", "docs", "handlers", "inbound", "product_laws", "routing", "v1")
    status, said = copy.run(*pytest_quietly, NEW_TEST, *(f"tests/unit/test_{name}.py" for name in concerned))

    assert status == 0, said[-5_000:]


def test_the_page_says_how_many_source_files_are_touched() -> None:
    page = PAGE.read_text("utf-8")
    touched = set(re.findall(r"^\+\+\+ b/(src/.+)$", page, re.MULTILINE))

    assert f"**{len(touched)} source files**" in page
    assert len(touched) <= MOST_SOURCE_FILES
