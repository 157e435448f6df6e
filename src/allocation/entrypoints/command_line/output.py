"""What commands print: results for programs, all in the same way, and tables for people."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import RenderableType

F = TypeVar("F", bound=Callable[..., Any])

NO_LIMIT = 10_000
"""Columns of a table that a program may read: a line is a line."""

_AT_THE_END = re.compile(r"(?: |\x1b\[[\d;]*m)+$", re.MULTILINE)


def json_option(what: str) -> Callable[[F], F]:
    """`--json`, as the parameter `as_json`; the help says `what` is printed."""
    return click.option("--json", "as_json", is_flag=True, help=what)


def echo_json(value: object) -> None:
    click.echo(in_json(value))


def in_json(value: object) -> str:
    """In one line, in which a person can read all letters and nothing moves the cursor; a date is text, by ISO 8601."""
    text = json.dumps(value, ensure_ascii=False, default=_as_text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def echo_tables(*tables: RenderableType, width: int | None = None) -> None:
    """So wide as the terminal, or without limit elsewhere, unless said otherwise; no line ends with blanks."""
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width if is_terminal else NO_LIMIT)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    lines = _AT_THE_END.sub(lambda end: end[0].replace(" ", ""), captured.get())
    click.echo(lines, nl=False)


def echo_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()) -> None:
    """Cells that are `numbers`, by their places, end at the right. On a terminal, which is narrow, columns in which no
    row has anything are left out."""
    from rich.table import Table

    found = list(rows)
    shown = [place for place in range(len(columns)) if not sys.stdout.isatty() or any(row[place] for row in found)]
    table = Table(box=None, pad_edge=False)
    for place in shown:
        table.add_column(columns[place], justify="right" if place in numbers else "left", overflow="fold")
    for row in found:
        table.add_row(*(printable(row[place]) for place in shown))
    echo_tables(table)


def printable(text: str) -> str:
    """What could move the cursor or clear the screen is shown as what it is."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def go_on_unheard() -> None:
    """From here on nothing that is printed fails because nobody reads it: what a command does, and its verdict, are
    the same. Not where a test has put something else in the place of standard output."""
    try:
        outlet = _Outlet(sys.stdout.fileno(), "w", closefd=False)
    except OSError:  # io.UnsupportedOperation is one
        return
    sys.stdout.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
        line_buffering=sys.stdout.isatty(),
    )


def to_nowhere(descriptor: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class _Outlet(io.FileIO):
    """A pipe, and nowhere once its other end is closed."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            to_nowhere(self.fileno())
            return super().write(data)


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
