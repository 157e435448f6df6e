"""Who may know whom, said as tests. The import contracts in .importlinter are run by `make lint`."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOMAIN = sorted((ROOT / "src/allocation/domain").glob("*.py"))
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def imported_by(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("file", DOMAIN, ids=lambda file: file.name)
def test_the_domain_imports_the_standard_library_and_itself_only(file: Path) -> None:
    for module in imported_by(file):
        assert module.startswith("allocation.domain") or module.partition(".")[0] in sys.stdlib_module_names, module


def test_every_module_says_why_it_exists() -> None:
    """In one sentence, with which it begins."""
    assert [file for file in SOURCES if not re.match(r'"""[^"\s]|\s*\Z', file.read_text("utf-8"))] == []
