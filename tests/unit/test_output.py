"""What is printed: tables without blanks at the end, dates as ISO 8601 has them, and on into nowhere if need be."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import click
import pytest
from rich.table import Table
from rich.text import Text

from allocation.entrypoints.command_line.output import echo_table, echo_tables, go_on_unheard, in_json

LONG = "a reason that is longer than a line of a terminal is, and is looked for by a program " * 3


def table() -> Table:
    table = Table("name", "reason", "by", box=None, pad_edge=False)
    table.add_row("first", LONG, Text("ada", "red"))
    table.add_row("second", "short", "")
    return table


def test_each_row_is_a_line_for_programs_and_ends_with_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    echo_tables(table())

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert LONG.strip() in lines[1]
    assert [line.split()[-1] for line in lines] == ["by", "ada", "short"]
    assert [line for line in lines if line.endswith(" ")] == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_is_as_wide_as_that_and_in_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    echo_tables(table())

    said = terminal.getvalue()
    assert "\x1b[31mada\x1b[0m" in said
    assert LONG not in said


@pytest.mark.parametrize(
    ("stdout", "header"), [(Terminal(), ["batch", "qty"]), (io.StringIO(), ["batch", "eta", "qty"])]
)
def test_on_a_terminal_columns_in_which_nothing_is_are_left_out(
    monkeypatch: pytest.MonkeyPatch, stdout: io.StringIO, header: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")

    echo_table(["batch", "eta", "qty"], (row for row in [["b1", "", "0"], ["b2", "", "7"]]), numbers={2})

    first, *rows = stdout.getvalue().splitlines()
    assert (first.split(), [row.split() for row in rows]) == (header, [["b1", "0"], ["b2", "7"]])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC), '"2026-11-21T01:02:03+00:00"'),
        (date(2026, 11, 21), '"2026-11-21"'),
        (Path("var/mail"), '"var/mail"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ({"sku": "Stühle"}, '{"sku": "Stühle"}'),
    ],
)
def test_what_json_has_no_word_for_is_text_as_other_programs_read_it(value: object, written: str) -> None:
    assert in_json(value) == written


@contextmanager
def pipe() -> Iterator[int]:
    """In the place of standard output, through `go_on_unheard`; gives the end that is read from."""
    reading, writing = os.pipe()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(writing, "w") as given:
        patch.setattr(sys, "stdout", given)
        go_on_unheard()
        with sys.stdout:
            yield reading


def test_what_is_printed_is_read_at_the_other_end() -> None:
    with pipe() as reading:
        click.echo("All is fine.")

        os.set_blocking(reading, False)
        assert os.read(reading, 100) == b"All is fine.\n"
        os.close(reading)


def test_work_goes_on_when_the_other_end_is_closed() -> None:
    with pipe() as reading:
        os.close(reading)

        for _ in range(3):
            click.echo("All is fine.")
