"""The books at one moment, and the sentence that says whether they balance."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from allocation.check import batches, effects, histories, lines
from allocation.check.difference import BeyondUs, Difference
from allocation.check.histories import Heard
from messaging.sql.connections import connection

_FIGURES = text("""
    SELECT (SELECT count(*) FROM products) AS products,
           (SELECT count(*) FROM batches) AS batches,
           (SELECT count(*) FROM allocations) AS allocations,
           (SELECT count(*) FROM event_log) AS events,
           (SELECT count(*) FROM outbox WHERE dead_at IS NULL) AS waiting,
           (SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL) AS dead
""")


@dataclass(frozen=True, slots=True)
class Figures:
    products: int
    batches: int
    allocations: int
    events: int
    waiting: int
    dead: int

    def __str__(self) -> str:
        return (
            f"{self.products:,} products, {self.batches:,} batches, {self.allocations:,} allocations, "
            f"{self.events:,} events; {self.waiting:,} effects waiting, {self.dead:,} dead"
        )


@dataclass(frozen=True, slots=True)
class Books:
    snapshot: Connection

    def figures(self) -> Figures:
        return Figures(**self.snapshot.execute(_FIGURES).mappings().one())

    def differences(self, heard: Heard = lambda _events, _of_what: None) -> Iterator[Difference]:
        """All of them, as they are found; none means that the books balance."""
        yield from histories.differences(self.snapshot, heard)
        for what, part in (("batches", batches), ("order lines", lines), ("effects", effects)):
            heard(0, what)
            yield from part.differences(self.snapshot)


@contextmanager
def open_books(engine: Engine) -> Iterator[Books]:
    """The books as they are at this moment, whatever is written meanwhile. Raises Unavailable."""
    with connection(engine.execution_options(postgresql_readonly=True), "REPEATABLE READ") as snapshot:
        snapshot.execute(text("SET LOCAL cursor_tuple_fraction = 1"))  # plan for all rows, not for the first ones
        yield Books(snapshot)


def balance(
    engine: Engine,
    say: Callable[[str], None],
    most_listed: int = sys.maxsize,
    heard: Heard = lambda _events, _of_what: None,
) -> bool:
    """Whether the books balance; says so in a line, after one for each difference. Raises Unavailable."""
    found = beyond_us = 0
    with open_books(engine) as books:
        for difference in books.differences(heard):
            found += 1
            beyond_us += isinstance(difference, BeyondUs)
            if found <= most_listed:
                say(str(difference))
        if not found:
            say(f"The books balance: {books.figures()}.")
            return True
    if found == beyond_us:
        unknown = "1 event" if found == 1 else f"{found:,} events"
        say(f"All balances but for what only a newer release can check: {unknown} that this one does not know.")
        return False
    differences = "1 difference" if found == 1 else f"{found:,} differences"
    unlisted = f", {found - most_listed:,} of them not listed" if found > most_listed else ""
    say(f"The books do not balance: {differences}{unlisted}.")
    return False
