"""Connections whose errors speak the machinery's language."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError

from messaging.errors import OutcomeUnknown
from messaging.sql.errors import Faults, is_misplaced, is_not_prepared, is_outdated, translated
from messaging.sql.watchdog import OPTION


@contextmanager
def connection(engine: Engine, isolation_level: IsolationLevel = "AUTOCOMMIT") -> Iterator[Connection]:
    """A connection from the pool; what was not committed is rolled back. Raises MessagingErrors for database faults.

    The engine's own level is AUTOCOMMIT: to leave it at that costs nothing.
    """
    if watch := engine.get_execution_options().get(OPTION):
        watch.require_available()
    try:
        with engine.connect() as open_connection:
            try:
                if isolation_level != "AUTOCOMMIT":
                    open_connection.execution_options(isolation_level=isolation_level)
                yield open_connection
            except (*Faults, OutcomeUnknown) as error:
                _let_the_pool_know(open_connection, error)
                raise
    except Faults as error:
        meaning = translated(error)
        if meaning:
            raise meaning from error
        raise


def _let_the_pool_know(open_connection: Connection, error: Exception) -> None:
    """A broken connection, one to the wrong server, or one whose prepared statements are stale: the pool then replaces
    those at rest that are as old, too. What the server has only forgotten a round trip prepares anew by itself.

    It hears of it only through SQLAlchemy, and a round trip's errors come from the driver.
    """
    if open_connection.closed or open_connection.invalidated:
        return
    driver = open_connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        is_stale = is_outdated(error) or (isinstance(error, DBAPIError) and is_not_prepared(error))
        if is_misplaced(error) or is_stale:
            driver.close()
        if driver.closed:
            with suppress(*Faults):
                if not open_connection.in_transaction():
                    open_connection.begin()
                open_connection.rollback()
