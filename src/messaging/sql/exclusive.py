"""A way into the database that one process at a time has: what is committed through it was committed by its holder.

The pool's only connection takes a session lock in its first moment, or is not opened. The lock goes with the
connection: a holder that was killed has let go, and one that lost its connection can't commit. It needs a session of
its own on the server. Behind a pooler two could share one, and both would have the lock; so no pooler is let in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import psycopg
from sqlalchemy import Connection, Engine, event, text

from messaging.bus import MessageBus
from messaging.envelope import Position
from messaging.errors import Disconnected, Unavailable
from messaging.sql.connections import connection
from messaging.unit_of_work import UnitOfWork

U = TypeVar("U", bound=UnitOfWork)

# A pooler can't tell a client the number of a backend that will change, and tells it one of its own. The settings have
# the server notice within seconds that the holder's machine is gone; given at the start, many a pooler refuses them.
_LOCK = """
    SELECT pg_try_advisory_lock(hashtextextended(%s, 0)), set_config('tcp_keepalives_idle', '2', false),
           set_config('tcp_keepalives_interval', '1', false), set_config('tcp_keepalives_count', '2', false)
    WHERE pg_backend_pid() = %s
"""

# A lock on a number of 64 bits is listed under its two halves. A superuser and the role itself see whose session it is.
_HOLDER = text("""
    SELECT coalesce(host(client_addr), 'the same machine') AS address, backend_start AS since
    FROM pg_locks LEFT JOIN pg_stat_activity USING (pid), hashtextextended(:name, 0) AS key
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid::bigint = (key >> 32) & 4294967295 AND objid::bigint = key & 4294967295
""")

_ANYTHING = text("SELECT true")

_MAY_TAKE: ContextVar[Callable[[], bool]] = ContextVar("may_take", default=lambda: True)


class Occupied(Unavailable):
    """Another process is the holder, or was while our connection was away."""


class NoSession(Unavailable):
    """There is a pooler between us and the server."""


@dataclass(eq=False)
class ExclusiveBus(MessageBus[U]):
    """A bus whose units of work are on an exclusive `engine`, its own: only the holder of the lock can commit on it."""

    engine: Engine = field(kw_only=True)

    def is_ours(self) -> bool:
        """Whether this process is the holder now, after trying to be. Raises Unavailable when the database is away."""
        try:
            with suppress(Disconnected):  # the old connection; a new one may be had
                return self._answers()
            return self._answers()
        except Occupied:
            return False

    def position(self, stream: str) -> Position | None:
        """How far a stream was handled. Raises Unavailable."""

        def ask() -> Position | None:
            with self.unit_of_work() as uow:
                return uow.inbox.position(stream)

        return self.retry(ask)

    def advance(self, position: Position) -> None:
        """Keep how far a stream is handled, where no command is. Raises Unavailable."""

        def write() -> None:
            with self.unit_of_work() as uow:
                uow.inbox.advance(position)
                uow.commit()

        self.retry(write)

    def close(self) -> None:
        """Let go of the lock."""
        self.engine.dispose()

    def _answers(self) -> bool:
        with connection(self.engine) as open_connection:
            return bool(open_connection.scalar(_ANYTHING))


def make_exclusive(engine: Engine, name: str) -> Engine:
    """Have the connections of an engine, which must be of one at a time, raise Occupied unless they hold this lock,
    and NoSession where nobody could hold it."""

    @event.listens_for(engine, "connect")
    def take_lock(driver: psycopg.Connection[tuple[bool, str, str, str]], _: object) -> None:
        found = driver.execute(_LOCK, (name, driver.info.backend_pid)).fetchone()
        driver.commit()
        if not found:
            raise NoSession(f"{name} needs a session of its own, and there is a pooler before the database; go past it")
        is_ours, *_ = found
        if not is_ours:
            raise Occupied(f"another process has {name}")
        if not _MAY_TAKE.get()():  # asked under the lock, so that it stays true
            raise Occupied(f"another process has had {name} meanwhile")

    return engine


@contextmanager
def reacquire_only_if(it_may_be: Callable[[], bool]) -> Iterator[None]:
    """Within it this thread gets a lock that it has lost only if this is true once nobody else can have it any more."""
    token = _MAY_TAKE.set(it_may_be)
    try:
        yield
    finally:
        _MAY_TAKE.reset(token)


@dataclass(frozen=True, slots=True)
class Holder:
    """Where the connection that holds a lock comes from, and since when it is there, if we may know that."""

    address: str
    since: datetime | None


def holder_of(connection: Connection, name: str) -> Holder | None:
    """Who holds the lock, without trying to get it."""
    row = connection.execute(_HOLDER, {"name": name}).one_or_none()
    return Holder(row.address, row.since) if row else None
