"""The way to the database: one connection pool, made alike for whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, event

from messaging.sql.connections import replaced_one_by_one
from messaging.sql.limits import UNLIMITED, Limits
from messaging.sql.moments import read_all


def database_engine(url: str, connections: int = 10, limits: Limits = UNLIMITED, *, prepares: bool = True) -> Engine:
    """A pool that neither grows nor waits long, and connections that notice when the other side is gone.

    Without `limits` a statement may take as long as it will.
    """
    nothing_prepared = {} if prepares else {"prepare_threshold": None}  # whoever asks the driver for it
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",  # a transaction is begun on purpose
        pool_size=connections,
        max_overflow=0,
        pool_timeout=1.0,
        connect_args={
            "connect_timeout": 2,
            "application_name": "allocation",
            "client_encoding": "utf8",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            **nothing_prepared,
        },
    )
    event.listen(engine, "connect", read_all)
    return replaced_one_by_one(limits.on(engine))


@contextmanager
def short_lived_engine(url: str) -> Iterator[Engine]:
    """One connection, and no limits, for as long as the context lasts."""
    engine = database_engine(url, connections=1)
    try:
        yield engine
    finally:
        engine.dispose()
