"""What a command works with for as long as it lasts: a database, or the service on it.

An embedded database is started and migrated, since nobody else may have done it; where there is none yet a person is
told that this one is new, since they may be in the wrong folder. Another database is its owner's: its schema must be
there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

import embedded
from allocation.config import Settings
from allocation.entrypoints.command_line.backing_services import backing_services

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from allocation.bootstrap import Service

_NEVER_SPOKEN_TO = "redis://"


@contextmanager
def database(settings: Settings) -> Iterator[Engine]:
    """One connection to it. Raises Unavailable and EmbeddedServersError."""
    from allocation.database.engine import short_lived_engine
    from allocation.database.schema import require_current_schema

    with _prepared(settings) as filled, short_lived_engine(filled.database_url) as engine:
        require_current_schema(engine)
        yield engine


@contextmanager
def service(settings: Settings, **parts: Any) -> Iterator[Service]:
    """As `bootstrap` wires it with these parts. Redis is not needed: what follows waits in the outbox for a relay.

    Raises Unavailable and EmbeddedServersError.
    """
    from allocation.bootstrap import bootstrap
    from allocation.database.schema import require_current_schema

    with _prepared(settings) as filled, closing(bootstrap(filled, **parts)) as wired:
        require_current_schema(wired.engine)
        yield wired


@contextmanager
def _prepared(settings: Settings) -> Iterator[Settings]:
    if not (settings.database_url or embedded.keeps_data(settings.home)):
        elsewhere = "set DATABASE_URL or ALLOCATION_HOME if yours is elsewhere"
        click.echo(f"Nothing was kept in {settings.home}: this is a new, empty database; {elsewhere}.", err=True)
    with backing_services(settings, with_redis=False) as around:
        if not settings.database_url:
            from allocation.database import migrations

            migrations.upgrade(around.settings.database_url)
        yield replace(around.settings, redis_url=around.settings.redis_url or _NEVER_SPOKEN_TO)
