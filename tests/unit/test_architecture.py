"""Who may know whom, said as tests. The import contracts in .importlinter are run by `make lint`."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
from tests import fakes

from allocation.domain.commands import Allocate
from allocation.service_layer.ports import UnitOfWork

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


# --- what it costs to read and to change --------------------------------------------


def test_a_handler_is_at_most_nine_calls_below_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    between: list[str] = []

    def note_the_way_here(cmd: Allocate, uow: UnitOfWork) -> None:
        frames = [frame.function for frame in inspect.stack(context=0)]
        between.extend(frames[1 : frames.index("handle")])

    service = fakes.Service()
    monkeypatch.setitem(service.bus.routes._commands, Allocate, note_the_way_here)

    service.bus.handle(Allocate("o1", "LAMP", 1))

    assert len(between) <= 9, between


def test_what_a_newcomer_reads_first_is_at_most_920_lines() -> None:
    """Rules, handlers, the table of contents and the bus."""
    domain = [f"allocation/domain/{name}.py" for name in ("allocating", "breaking", "product")]
    service_layer = [f"allocation/service_layer/{name}.py" for name in ("handlers", "routing")]

    assert (
        sum(
            len((ROOT / "src" / name).read_text().splitlines())
            for name in (*domain, *service_layer, "messaging/bus.py")
        )
        <= 920
    )
