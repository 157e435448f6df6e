"""What the page on a warehouse's day has one type is typed, and must print what the page shows."""

from __future__ import annotations

import shlex

from click.testing import CliRunner
from tests.unit.test_docs import DOCS, blocks, text_of

from allocation.config import Settings
from allocation.entrypoints.cli import main


def shown() -> list[tuple[str, str]]:
    """Each command, and what stands below it."""
    lines = "".join(blocks(text_of(DOCS / "warehouse.md"), "console"))
    return [(typed, said) for typed, _, said in (part.partition("\n") for part in lines.split("$ allocation ")[1:])]


def test_the_page_prints_what_it_shows(settings: Settings) -> None:
    terminal = CliRunner(env=settings.as_environment({}) | {"LOG_LEVEL": "ERROR"})

    assert len(shown()) > 20
    for typed, said in shown():
        assert terminal.invoke(main, shlex.split(typed)).output == said, typed
