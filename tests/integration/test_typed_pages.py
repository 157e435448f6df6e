"""What the pages on a day of a warehouse and of orders have one type is typed, and must print what they show."""

from __future__ import annotations

import re
import shlex

import pytest
from click.testing import CliRunner
from tests.unit.test_docs import DOCS, blocks, text_of

from allocation.config import Settings
from allocation.entrypoints.cli import main


def shown(page: str) -> list[tuple[str, str]]:
    """Each command, and what stands below it."""
    lines = "".join(blocks(text_of(DOCS / page), "console"))
    return [(typed, said) for typed, _, said in (part.partition("\n") for part in lines.split("$ allocation ")[1:])]


def without_moments(said: str) -> str:
    """Which are those of whoever typed it."""
    said = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*", "yyyy-mm-ddThh:mm:ss.", said)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "yyyy-mm-dd hh:mm", said)


@pytest.mark.parametrize("page", ["warehouse.md", "orders.md"])
def test_the_page_prints_what_it_shows(settings: Settings, page: str) -> None:
    terminal = CliRunner(env=settings.as_environment({}) | {"LOG_LEVEL": "ERROR"})

    assert len(shown(page)) > 20
    for typed, said in shown(page):
        assert without_moments(terminal.invoke(main, shlex.split(typed)).output) == without_moments(said), typed
