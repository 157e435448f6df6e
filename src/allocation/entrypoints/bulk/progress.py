"""Shows how far a long job is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Show: TypeAlias = Callable[[int, str], None]
"""Takes how much is done, and what there is to say of it."""


@contextmanager
def progress(total: int | None, seconds_between_lines: float = 10.0) -> Iterator[Show]:
    """`total` is what will have been done at the end, if that is known."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task("", total=total)
            yield lambda done, text: bar.update(task, completed=done, description=text)
    else:
        yield _lines(total, seconds_between_lines)


def _bar(console: Console) -> Progress:
    columns = (BarColumn(None), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    # what else is printed on this terminal goes above the bar; what is sent elsewhere goes there as ever
    return Progress(*columns, console=console, transient=True, expand=True, redirect_stdout=sys.stdout.isatty())


def _lines(total: int | None, seconds_between: float) -> Show:
    last = time.monotonic()

    def show(done: int, text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds_between:
            last = time.monotonic()
            share = f"{done / total:.0%} of the file, " if total else ""
            sys.stderr.write(f"{share}{text}\n")
            sys.stderr.flush()

    return show
