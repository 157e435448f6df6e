"""`allocation check`: the proof that the data is consistent, as it is printed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from allocation.config import Settings
from allocation.entrypoints.command_line.output import in_json, json_option
from allocation.entrypoints.command_line.sessions import database

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from allocation.check import Difference, Figures, Verdict
    from allocation.check.histories import OnProgress

_MOST_LISTED = 100


@click.command(short_help="Prove that the data is consistent, or say what differs.")
@click.option("--all", "every", is_flag=True, help=f"List every difference, not just the first {_MOST_LISTED}.")
@json_option("Print JSON: one difference a line, then the verdict.")
@click.pass_obj
def check(settings: Settings, every: bool, as_json: bool) -> None:
    """Prove that the data is consistent, while the service runs or not; exit 1 and say what differs if it is not."""
    from allocation.check import check_consistency
    from messaging.sql.estimates import rows_about

    listed = 0

    def list_it(difference: Difference) -> None:
        nonlocal listed
        if every or listed < _MOST_LISTED:
            listed += 1
            click.echo(in_json(asdict(difference)) if as_json else str(difference))

    with database(settings) as engine, _progress(rows_about(engine, "event_log")) as on_progress:
        verdict = check_consistency(engine, list_it, on_progress)
        note_old_names(engine)
    click.echo(
        in_json({"balanced": verdict.is_consistent} | asdict(verdict)) if as_json else verdict_in_words(verdict, listed)
    )
    if not verdict.is_consistent:
        raise SystemExit(1)


def note_old_names(engine: Engine, patience: int = 0) -> None:
    """To standard error: it is no fault, and the verdict is that of the rest. Within milliseconds, or 0 for as long as
    it takes."""
    from sqlalchemy import text

    from allocation.check import in_another_form
    from messaging.errors import Unavailable
    from messaging.sql.connections import connection

    try:
        with connection(engine, "REPEATABLE READ") as open_connection, open_connection.begin():
            if patience:
                open_connection.execute(text(f"SET LOCAL statement_timeout = {patience:d}"))
            names = in_another_form(open_connection, _MOST_LISTED)
    except Unavailable:
        if not patience:
            raise
        return
    for name in names:
        click.echo(
            f"{name} is not in the form in which names are kept now (NFC); send it as it is to find it", err=True
        )


def verdict_in_words(verdict: Verdict, listed: int) -> str:
    """A sentence to come after the differences, of which so many are `listed`."""
    if verdict.is_consistent:
        return f"All data is consistent: {_figures(verdict.checked)}."
    found, unknown = verdict.differences, verdict.unknown_events
    if found == unknown:
        events = "1 event" if found == 1 else f"{found:,} events"
        return f"All data is consistent, as far as this release can tell: it does not know {events}."
    differences = "1 difference" if found == 1 else f"{found:,} differences"
    newer = f", {unknown:,} of them for a newer release to check" if unknown else ""
    unlisted = f", {found - listed:,} of them not listed" if found > listed else ""
    return f"The data is not consistent: {differences}{newer}{unlisted}."


def _figures(checked: Figures) -> str:
    return (
        f"{checked.products:,} products, {checked.batches:,} batches, {checked.allocations:,} allocations, "
        f"{checked.events:,} events; {checked.waiting:,} effects waiting, {checked.dead:,} dead"
    )


@contextmanager
def _progress(events: int | None) -> Iterator[OnProgress]:
    """How far it is, on a terminal, and nothing elsewhere."""
    from allocation.entrypoints.bulk.progress import progress

    done = 0
    with progress(events, seconds_between_lines=math.inf) as show:

        def on_progress(so_far: int, of_what: str) -> None:
            nonlocal done
            done = max(done, so_far)
            show(done, of_what)

        yield on_progress
