"""`allocation check`: the proof that the books balance, as it is printed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from allocation.config import Settings
from allocation.entrypoints.command_line.surroundings import surroundings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from allocation.check.histories import Heard


@click.command(short_help="Prove that the books balance, or say what differs.")
@click.option("--all", "every", is_flag=True, help="List every difference, not just the first 100.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one difference a line, then the verdict.")
@click.pass_obj
def check(settings: Settings, every: bool, as_json: bool) -> None:
    """Prove that the books balance, while the service runs or not; exit 1 and say what differs if they do not."""
    from allocation.check import balance
    from messaging.sql.estimates import rows_about

    most_listed = sys.maxsize if every else 100
    with _database(settings) as engine, _progress(rows_about(engine, "event_log")) as heard:
        judge = _judge_in_json if as_json else balance
        balanced = judge(engine, click.echo, most_listed, heard)
    if not balanced:
        raise SystemExit(1)


def _judge_in_json(engine: Engine, say: Callable[[str], None], most_listed: int, heard: Heard) -> bool:
    from allocation.check import open_books

    found = 0
    with open_books(engine) as books:
        for found, difference in enumerate(books.differences(heard), start=1):
            if found <= most_listed:
                say(json.dumps(asdict(difference), ensure_ascii=False, default=str))
        figures = books.figures()
    say(json.dumps({"balanced": not found, "differences": found, "checked": asdict(figures)}))
    return not found


@contextmanager
def _database(settings: Settings) -> Iterator[Engine]:
    from allocation.adapters.schema import require_current_schema
    from allocation.bootstrap import database_engine

    with surroundings(settings, with_redis=False) as around:
        engine = database_engine(around.settings.database_url, connections=1)
        try:
            require_current_schema(engine)
            yield engine
        finally:
            engine.dispose()


@contextmanager
def _progress(events: int | None) -> Iterator[Heard]:
    """How far it is, on a terminal, and nothing elsewhere."""
    from allocation.entrypoints.bulk.progress import progress

    done = 0
    with progress(events, seconds_between_lines=math.inf) as show:

        def heard(so_far: int, of_what: str) -> None:
            nonlocal done
            done = max(done, so_far)
            show(done, of_what)

        yield heard
