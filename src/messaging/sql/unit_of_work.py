"""A transaction on one PostgreSQL connection: what will be needed is read at the beginning, what is written at the end.

Each of the two is one round trip, and BEGIN and COMMIT travel along.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine

from messaging.codec import Codec
from messaging.errors import OutcomeUnknown
from messaging.sql.connections import connection
from messaging.sql.errors import Faults, translated
from messaging.sql.event_log import SqlEventLog
from messaging.sql.inbox import SqlInbox
from messaging.sql.lanes import lock_lanes
from messaging.sql.outbox import SqlOutbox
from messaging.sql.statements import Question, Writer, as_json, joined

U = TypeVar("U")
Driver: TypeAlias = psycopg.Connection[Any]

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ"


class SqlTransaction:
    """What every bounded context's unit of work has. It adds its own writers: repositories and read models."""

    def __init__(self, driver: Driver, codec: Codec, refusals: Mapping[str, type[Exception]]) -> None:
        self.event_log = SqlEventLog(self.ask, codec)
        self.outbox = SqlOutbox()
        self.inbox = SqlInbox(self.ask, refusals)
        self._driver = driver
        self._writers: list[Writer] = []
        self._turn = ""
        self._first: list[Question] = []

    def add_writer(self, writer: Writer) -> None:
        self._writers.append(writer)

    def ask(self, questions: Iterable[Question]) -> None:
        """Ask all at once; the first time is the moment that the whole transaction sees."""
        asked = [*self._first, *questions]
        self._first = []
        if not asked:
            return
        with self._travelling_together():
            answers = [self._execute(question.text, {"rows": as_json(question.rows)}) for question in asked]
        for question, answer in zip(asked, answers, strict=True):
            question.take(answer.fetchall())

    def expect(self, commands: Sequence[object], message_ids: Sequence[str]) -> None:
        """Ask at once what these commands will need; a bounded context that is asked much knows what that is."""
        self.ask([*self.questions(commands), *self.inbox.questions(message_ids)])

    def questions(self, commands: Sequence[object]) -> Iterable[Question]:  # noqa: ARG002 - a bounded context's to say
        return ()

    def reserve(self, commands: Sequence[object]) -> None:
        """A bounded context that is written by many at once says here whose turn to wait for."""

    def wait_for_turn(self, streams: Collection[str], first: Iterable[Question]) -> None:
        """When anything is asked: wait in the lanes of these streams, and ask this first of all."""
        self._turn = lock_lanes(streams) if streams else ""
        self._first = list(first)

    def commit(self) -> None:
        """Send all that was gathered, and COMMIT, at once."""
        # The aggregate's rows first: who reserved them and who did not meet there, and not in each other's way.
        writers = [*self._writers, self.event_log, self.outbox, self.inbox]
        statements = joined(statement for writer in writers for statement in writer.statements())
        try:
            with self._travelling_together():
                for text, rows in statements:
                    self._execute(text, rows)
                self._driver.execute("COMMIT", prepare=False)
        except Faults as error:
            if isinstance(meaning := translated(error, committing=True), OutcomeUnknown):
                raise meaning from error
            raise

    @contextmanager
    def _travelling_together(self) -> Iterator[None]:
        """In one round trip, for which the driver must not begin the transaction: it would wait for that."""
        with self._driver.pipeline():
            if self._driver.pgconn.transaction_status == TransactionStatus.IDLE:
                self._driver.execute(_BEGIN, prepare=False)
                if self._turn:
                    self._driver.execute(self._turn, prepare=False)
            yield

    def _execute(self, text: str, parameters: Mapping[str, str]) -> psycopg.Cursor[Any]:
        return self._driver.execute(text, parameters, prepare=True)


def transactions(engine: Engine, begin: Callable[[Driver], U]) -> Callable[[], AbstractContextManager[U]]:
    """Units of work, each with a connection and a transaction of its own; what was not committed is rolled back."""
    # When a pipeline fails its driver warns of what it gave up too; the error itself arrives, and conflicts are normal.
    logging.getLogger("psycopg").setLevel(logging.ERROR)

    @contextmanager
    def unit_of_work() -> Iterator[U]:
        with connection(engine) as open_connection:
            open_connection.begin()  # sends nothing, but makes SQLAlchemy look after a transaction that is open
            driver = open_connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection), "only PostgreSQL through psycopg is supported"
            assert driver.autocommit, "we begin our transactions ourselves"
            yield begin(driver)

    return unit_of_work
