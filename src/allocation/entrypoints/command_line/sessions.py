"""What a command works with for as long as it lasts: a database, or the service on it.

An embedded database is started and migrated, since nobody else may have done it. Another one is its owner's: its schema
must be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocation.config import Settings
from allocation.entrypoints.command_line.surroundings import surroundings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from allocation.bootstrap import Service

_NEVER_SPOKEN_TO = "redis://"


@contextmanager
def database(settings: Settings) -> Iterator[Engine]:
    """One connection to it. Raises Unavailable, EmbeddedServersError."""
    from allocation.adapters.engine import short_lived_engine
    from allocation.adapters.schema import require_current_schema

    with _prepared(settings, with_redis=False) as filled, short_lived_engine(filled.database_url) as engine:
        require_current_schema(engine)
        yield engine


@contextmanager
def service(settings: Settings, *, with_redis: bool = True, **parts: Any) -> Iterator[Service]:
    """As `bootstrap` wires it with these parts. Without Redis, what follows waits in the outbox for a relay.

    Raises Unavailable, EmbeddedServersError.
    """
    from allocation.adapters.schema import require_current_schema
    from allocation.bootstrap import bootstrap

    with _prepared(settings, with_redis=with_redis) as filled, closing(bootstrap(filled, **parts)) as wired:
        require_current_schema(wired.engine)
        yield wired


@contextmanager
def _prepared(settings: Settings, *, with_redis: bool) -> Iterator[Settings]:
    with surroundings(settings, with_redis=with_redis) as around:
        if not settings.database_url:
            from allocation import migrations

            migrations.upgrade(around.settings.database_url)
        yield replace(around.settings, redis_url=around.settings.redis_url or _NEVER_SPOKEN_TO)
