"""Connections whose errors speak the machinery's language."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError, DisconnectionError, InvalidatePoolError, InvalidRequestError
from sqlalchemy.pool import ConnectionPoolEntry

from messaging.errors import Disconnected, OutcomeUnknown
from messaging.retry import Retry
from messaging.sql.errors import Faults, is_misplaced, is_not_prepared, is_outdated, translated
from messaging.sql.watchdog import OPTION

A = TypeVar("A")
P = ParamSpec("P")

_GOOD_AT, _WITH_ALL = "good at", "with all that are as old"


@contextmanager
def connection(engine: Engine, isolation_level: IsolationLevel = "AUTOCOMMIT") -> Iterator[Connection]:
    """A connection from the pool; what was not committed is rolled back. Raises MessagingErrors for database faults.

    The engine's own level is AUTOCOMMIT: to leave it at that costs nothing.
    """
    watch = engine.get_execution_options().get(OPTION)
    try:
        if watch:
            watch.require_available()
            watch.require_first(lambda: _connected(engine).close())
        with _connected(engine) as open_connection:
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


@dataclass(frozen=True, slots=True)
class Database:
    """For what may be done twice: each time on a connection of its own, and again when that was lost."""

    engine: Engine
    retry: Retry = field(default_factory=Retry)

    def run(self, question: Callable[Concatenate[Connection, P], A], *about: P.args, **further: P.kwargs) -> A:
        """Raises Unavailable."""

        def ask() -> A:
            with connection(self.engine) as open_connection:
                return question(open_connection, *about, **further)

        return self.retry(ask)


def _connected(engine: Engine) -> Connection:
    """SQLAlchemy has no word of its own for losing the first connection while it asks what server it is, nor for losing
    one after another while it looks for a good one."""
    try:
        return engine.connect()
    except (InvalidRequestError, NotImplementedError) as error:
        raise Disconnected(f"the connection was lost at once: {error}") from error


def replaced_one_by_one(engine: Engine) -> Engine:
    """The same engine, whose connections are tested once another one was lost, before they are used again. SQLAlchemy
    would close them all first, and there may be no new ones to be had. A test of silent ones would take too long: then
    all that are as old are replaced."""
    lost_at = 0.0

    def was_silent(driver: Any) -> bool:
        watch = engine.get_execution_options().get(OPTION)
        return watch is not None and watch.has_cut(driver)

    @event.listens_for(engine, "connect")
    def on_connect(_: object, entry: ConnectionPoolEntry) -> None:
        entry.info[_GOOD_AT] = time.monotonic()

    @event.listens_for(engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        nonlocal lost_at
        if context.is_disconnect and context.connection is not None:
            lost_at = time.monotonic()
            with_all = context.connection.info.pop(_WITH_ALL, False)
            context.invalidate_pool_on_disconnect = with_all or was_silent(
                context.connection.connection.driver_connection
            )

    @event.listens_for(engine, "checkout")
    def on_checkout(driver: psycopg.Connection[Any], entry: ConnectionPoolEntry, _: object) -> None:
        if entry.info[_GOOD_AT] > lost_at:
            return
        try:
            driver.execute("")
        except psycopg.Error as error:
            kind = InvalidatePoolError if was_silent(driver) else DisconnectionError
            raise kind(str(error)) from error
        entry.info[_GOOD_AT] = time.monotonic()

    return engine


def _let_the_pool_know(open_connection: Connection, error: Exception) -> None:
    """Of a connection that is broken, leads to the wrong server, or has stale prepared statements. In the last two
    cases the pool also replaces all idle ones that are as old. What the server has merely forgotten, a round trip
    prepares anew by itself.

    The pool hears of errors through SQLAlchemy only, and those of a round trip come from the driver.
    """
    if open_connection.closed or open_connection.invalidated:
        return
    driver = open_connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        is_stale = is_outdated(error) or (isinstance(error, DBAPIError) and is_not_prepared(error))
        if is_misplaced(error) or is_stale:
            open_connection.info[_WITH_ALL] = True
            driver.close()
        if driver.closed:
            with suppress(*Faults):
                if not open_connection.in_transaction():
                    open_connection.begin()
                open_connection.rollback()
