"""All data at one moment, and whether it is consistent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from allocation.check import batches, effects, histories, lines, queues
from allocation.check.difference import Difference, UnknownEvent
from allocation.check.histories import OnProgress
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
    events that a newer release may know: whether the data is consistent there, this one can't tell."""

    differences: int
    unknown_events: int
    checked: Figures

    @property
    def is_consistent(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True)
class Snapshot:
    connection: Connection

    def figures(self) -> Figures:
        return Figures(**self.connection.execute(_FIGURES).mappings().one())

    def differences(self, on_progress: OnProgress = lambda _events, _of_what: None) -> Iterator[Difference]:
        """All of them, as they are found; none means that the data is consistent."""
        yield from histories.differences(self.connection, on_progress)
        for what, part in (("batches", batches), ("order lines", lines), ("queues", queues), ("effects", effects)):
            on_progress(0, what)
            yield from part.differences(self.connection)


@contextmanager
def open_snapshot(engine: Engine) -> Iterator[Snapshot]:
    """All data as it is at this moment, whatever is written meanwhile. Raises Unavailable."""
    with connection(engine.execution_options(postgresql_readonly=True), "REPEATABLE READ") as one_moment:
        one_moment.execute(text("SET LOCAL cursor_tuple_fraction = 1"))  # plan for all rows, not for the first ones
        yield Snapshot(one_moment)


def check_consistency(
    engine: Engine,
    found: Callable[[Difference], object] = lambda _: None,
    on_progress: OnProgress = lambda _events, _of_what: None,
) -> Verdict:
    """Whether the data is consistent. `found` is called with each difference, as it is found. Raises Unavailable."""
    differences = unknown_events = 0
    with open_snapshot(engine) as snapshot:
        for difference in snapshot.differences(on_progress):
            differences += 1
            unknown_events += isinstance(difference, UnknownEvent)
            found(difference)
        return Verdict(differences, unknown_events, snapshot.figures())
