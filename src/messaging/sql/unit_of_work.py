"""A transaction on one PostgreSQL connection: what will be needed is read at the beginning, what is written at the end.

Each of the two is one round trip, and BEGIN and COMMIT travel along.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import TypeVar

import psycopg
from sqlalchemy import Engine

from messaging.codec import Codec
from messaging.errors import OutcomeUnknown
from messaging.refusals import Refusals
from messaging.sql.connections import connection
from messaging.sql.errors import Faults, translated
from messaging.sql.event_log import SqlEventLog
from messaging.sql.inbox import SqlInbox
from messaging.sql.outbox import SqlOutbox
from messaging.sql.round_trip import RoundTrips, Sent
from messaging.sql.statements import Query, Rows, Writer, as_json, joined
from messaging.sql.stripes import lock_stripes

U = TypeVar("U")

_BEGIN: Sent = ("BEGIN ISOLATION LEVEL REPEATABLE READ", ())
_COMMIT: Sent = ("COMMIT", ())
_ROUND_TRIPS = "round trips"


class SqlTransaction:
    """What every bounded context's unit of work has. It adds its own writers: repositories and read models."""

    def __init__(self, round_trips: RoundTrips, codec: Codec, refusals: Refusals) -> None:
        self.event_log = SqlEventLog(self.ask, codec)
        self.outbox = SqlOutbox()
        self.inbox = SqlInbox(self.ask, refusals)
        self._round_trips = round_trips
        self._writers: list[Writer] = []
        self._turn: list[Sent] = []
        self._locks: list[Query] = []

    def add_writer(self, writer: Writer) -> None:
        self._writers.append(writer)

    def ask(self, *queries: Query) -> dict[str, Rows]:
        """Read at once, and return the rows of each by its text. The first time is the moment that the whole
        transaction sees."""
        sent = [*self._locks, *queries]
        self._locks = []
        if not sent:
            return {}
        answers = self._go([(query.text, [as_json(query.rows)]) for query in sent])
        return {query.text: answer for query, answer in zip(sent, answers, strict=True)}

    def prefetch(self, commands: Sequence[object], message_ids: Sequence[str]) -> None:  # noqa: ARG002 - a bounded context knows what its commands need
        self.inbox.take(self.ask(*self.inbox.queries(message_ids)))

    def lock(self, commands: Sequence[object], streams: Collection[str] = (), *, wait: bool) -> None:
        """A bounded context that is written by many at once overrides this: see `lock_first`."""

    @property
    def streams(self) -> Collection[str]:
        return ()

    @property
    def locked_elsewhere(self) -> Collection[str]:
        return ()

    def lock_first(self, locks: Query, wait_for_turn: Collection[str] = ()) -> None:
        """When anything is read: first wait in the queues of these streams, then lock."""
        self._turn = [(lock_stripes(wait_for_turn), ())] if wait_for_turn else []
        self._locks = [locks]

    def commit(self) -> None:
        """Send all that was gathered, and COMMIT, at once."""
        # The aggregate's rows first: who reserved them and who did not meet there, and not in each other's way.
        writers = [*self._writers, self.event_log, self.outbox, self.inbox]
        statements = joined(chain.from_iterable(writer.statements() for writer in writers))
        try:
            self._go([*statements, _COMMIT])
        except Faults as error:
            if isinstance(meaning := translated(error, committing=True), OutcomeUnknown):
                raise meaning from error
            raise

    def _go(self, statements: Sequence[Sent]) -> list[Rows]:
        """In one round trip, with all that must come before."""
        before = []
        if not self._round_trips.in_transaction:
            before = [_BEGIN, *self._turn]
        return self._round_trips.go(*before, *statements)[len(before) :]


def transactions(engine: Engine, begin: Callable[[RoundTrips], U]) -> Callable[[], AbstractContextManager[U]]:
    """Units of work, each with a connection and a transaction of its own; what was not committed is rolled back."""

    @contextmanager
    def unit_of_work() -> Iterator[U]:
        with connection(engine) as open_connection:
            driver = open_connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection), "only PostgreSQL through psycopg is supported"
            assert driver.autocommit, "we begin our transactions ourselves"
            of_connection = open_connection.info  # for as long as it lives
            if _ROUND_TRIPS not in of_connection:
                of_connection[_ROUND_TRIPS] = RoundTrips(driver)
            round_trips = of_connection[_ROUND_TRIPS]
            try:
                yield begin(round_trips)
            finally:
                round_trips.roll_back()

    return unit_of_work
