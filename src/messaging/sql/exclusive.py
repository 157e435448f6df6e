"""A way into the database that one process at a time has: what is committed through it was committed by its holder.

The pool's only connection takes a session lock in its first moment, or is not opened. The lock goes with the
connection: a holder that was killed has let go, and one that lost its connection can't commit. It needs a session of
its own on the server, so it must not go through a pooler in transaction mode.
"""

from __future__ import annotations

import psycopg
from sqlalchemy import Engine, event

from messaging.errors import Unavailable
from messaging.sql.connections import connection

# Has the server notice within seconds that the holder's machine is gone.
KEEPALIVES = "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=2"


class Occupied(Unavailable):
    """Another process is the holder."""


def make_exclusive(engine: Engine, name: str) -> Engine:
    """Have the connections of an engine, which must be of one at a time, raise Occupied unless they hold this lock."""

    @event.listens_for(engine, "connect")
    def take_lock(driver: psycopg.Connection[tuple[bool]], _: object) -> None:
        ours = driver.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone()
        driver.commit()
        if ours != (True,):
            raise Occupied(f"another process has {name}")

    return engine


def is_ours(engine: Engine) -> bool:
    """Whether this process holds the lock, after trying to get it. Raises Unavailable when the database is away."""
    try:
        with connection(engine):
            return True
    except Occupied:
        return False
