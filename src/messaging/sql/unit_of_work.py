"""A transaction on one PostgreSQL connection: what will be needed is read at the beginning, what is written at the end.

Each of the two is one round trip, and BEGIN and COMMIT travel along.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import psycopg
from sqlalchemy import Engine

from messaging.codec import Codec
from messaging.errors import OutcomeUnknown
from messaging.sql.connections import connection
from messaging.sql.errors import Faults, translated
from messaging.sql.event_log import SqlEventLog
from messaging.sql.inbox import SqlInbox
from messaging.sql.lanes import lock_lanes
from messaging.sql.outbox import SqlOutbox
from messaging.sql.round_trip import RoundTrips, Rows, Sent
from messaging.sql.statements import Question, Writer, as_json, joined

U = TypeVar("U")

_BEGIN: Sent = ("BEGIN ISOLATION LEVEL REPEATABLE READ", ())
_COMMIT: Sent = ("COMMIT", ())
_ROUND_TRIPS = "round trips"


class SqlTransaction:
    """What every bounded context's unit of work has. It adds its own writers: repositories and read models."""

    def __init__(self, round_trips: RoundTrips, codec: Codec, refusals: Mapping[str, type[Exception]]) -> None:
        self.event_log = SqlEventLog(self.ask, codec)
        self.outbox = SqlOutbox()
        self.inbox = SqlInbox(self.ask, refusals)
        self._round_trips = round_trips
        self._writers: list[Writer] = []
        self._turn: list[Sent] = []
        self._first: list[Question] = []

    def add_writer(self, writer: Writer) -> None:
        self._writers.append(writer)

    def ask(self, questions: Iterable[Question]) -> None:
        """Ask all at once; the first time is the moment that the whole transaction sees."""
        asked = [*self._first, *questions]
        self._first = []
        if not asked:
            return
        answers = self._go([(question.text, [as_json(question.rows)]) for question in asked])
        for question, answer in zip(asked, answers, strict=True):
            question.take(answer)

    def expect(self, commands: Sequence[object], message_ids: Sequence[str]) -> None:
        """Ask at once what these commands will need; a bounded context that is asked much knows what that is."""
        self.ask([*self.questions(commands), *self.inbox.questions(message_ids)])

    def questions(self, commands: Sequence[object]) -> Iterable[Question]:  # noqa: ARG002 - a bounded context's to say
        return ()

    def reserve(self, commands: Sequence[object]) -> None:
        """A bounded context that is written by many at once says here whose turn to wait for."""

    def wait_for_turn(self, streams: Collection[str], first: Iterable[Question]) -> None:
        """When anything is asked: wait in the lanes of these streams, and ask this first of all."""
        self._turn = [(lock_lanes(streams), ())] if streams else []
        self._first = list(first)

    def commit(self) -> None:
        """Send all that was gathered, and COMMIT, at once."""
        # The aggregate's rows first: who reserved them and who did not meet there, and not in each other's way.
        writers = [*self._writers, self.event_log, self.outbox, self.inbox]
        statements = joined(statement for writer in writers for statement in writer.statements())
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
            yield begin(of_connection[_ROUND_TRIPS])

    return unit_of_work
