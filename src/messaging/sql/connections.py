"""Connections whose errors speak the machinery's language."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.engine.interfaces import IsolationLevel

from messaging.errors import Disconnected
from messaging.sql.errors import Faults, translated


@contextmanager
def connection(engine: Engine, isolation_level: IsolationLevel) -> Iterator[Connection]:
    """A connection from the pool; what was not committed is rolled back. Raises MessagingErrors for database faults."""
    try:
        with engine.execution_options(isolation_level=isolation_level).connect() as open_connection:
            yield open_connection
    except Faults as error:
        meaning = translated(error)
        if isinstance(meaning, Disconnected):
            engine.dispose()  # what broke one connection has likely broken those at rest in the pool
        if meaning:
            raise meaning from error
        raise
