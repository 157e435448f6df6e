"""The books at one moment, and whether they balance."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many differences were found, and what was `checked`. Of the differences, `unknown_events` are no more than
    events that a newer release may know: whether the books balance there, this one can't tell."""

    differences: int
    unknown_events: int
    checked: Figures

    @property
    def is_balanced(self) -> bool:
        return not self.differences


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


def check_books(
    engine: Engine,
    found: Callable[[Difference], object] = lambda _: None,
    heard: Heard = lambda _events, _of_what: None,
) -> Verdict:
    """Whether the books balance. `found` is told of each difference, as it is found. Raises Unavailable."""
    differences = unknown_events = 0
    with open_books(engine) as books:
        for difference in books.differences(heard):
            differences += 1
            unknown_events += isinstance(difference, BeyondUs)
            found(difference)
        return Verdict(differences, unknown_events, books.figures())
