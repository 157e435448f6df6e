"""A transaction on one PostgreSQL connection: reads go at once, writes are gathered and travel together at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import psycopg
from sqlalchemy import Connection, Engine

from messaging.codec import Codec
from messaging.sql.connections import connection
from messaging.sql.errors import Faults, translated
from messaging.sql.event_log import SqlEventLog
from messaging.sql.inbox import SqlInbox
from messaging.sql.outbox import SqlOutbox
from messaging.sql.statements import Writer

U = TypeVar("U")


class SqlTransaction:
    """What every bounded context's unit of work has. It adds its own writers: repositories and read models."""

    def __init__(self, open_connection: Connection, codec: Codec, refusals: Mapping[str, type[Exception]]) -> None:
        self.connection = open_connection
        self.event_log = SqlEventLog(open_connection, codec)
        self.outbox = SqlOutbox()
        self.inbox = SqlInbox(open_connection, refusals)
        self._writers: list[Writer] = []

    def add_writer(self, writer: Writer) -> None:
        self._writers.append(writer)

    def reserve(self, commands: Sequence[object]) -> None:
        """A bounded context that is written by many at once locks its rows here."""

    def commit(self) -> None:
        """Send all that was gathered in one pipeline, and commit."""
        # The aggregate's rows first: who reserved them and who did not meet there, and not in each other's way.
        writers = [*self._writers, self.event_log, self.outbox, self.inbox]
        statements = [statement for writer in writers for statement in writer.statements()]
        if statements:
            with _driver_of(self.connection).pipeline():
                for statement, parameters in statements:
                    self.connection.execute(statement, parameters)
        try:
            self.connection.commit()
        except Faults as error:
            if meaning := translated(error, committing=True):
                raise meaning from error
            raise


def transactions(engine: Engine, begin: Callable[[Connection], U]) -> Callable[[], AbstractContextManager[U]]:
    """Units of work, each with a connection and a transaction of its own; what was not committed is rolled back."""
    # When a pipeline fails its driver warns of what it gave up too; the error itself arrives, and conflicts are normal.
    logging.getLogger("psycopg").setLevel(logging.ERROR)

    @contextmanager
    def unit_of_work() -> Iterator[U]:
        with connection(engine, "REPEATABLE READ") as open_connection:
            yield begin(open_connection)

    return unit_of_work


def _driver_of(open_connection: Connection) -> psycopg.Connection[object]:
    driver = open_connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection), "only PostgreSQL through psycopg is supported"
    return driver
