"""The database's schema, step by step. Part of the package, so that whatever is installed can migrate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from allocation.adapters.schema import REVISION
from messaging.sql.connections import connection

_ONE_AT_A_TIME = 500_554_321  # the advisory lock that migrating processes queue at


def upgrade(database_url: str, revision: str = REVISION) -> str:
    """Bring the schema up to a revision and return it; processes that start together do it one after another.

    Raises Unavailable.
    """
    _migrate(database_url, lambda config: command.upgrade(config, revision))
    return revision


def downgrade(database_url: str, revision: str) -> None:
    """Take the schema back to a revision, with all that later ones added."""
    _migrate(database_url, lambda config: command.downgrade(config, revision))


def _migrate(database_url: str, step: Callable[[Config], None]) -> None:
    engine = create_engine(database_url, connect_args={"connect_timeout": 5})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    try:
        with connection(engine, "READ COMMITTED") as open_connection, open_connection.begin():
            open_connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
            config.attributes["connection"] = open_connection
            step(config)
    finally:
        engine.dispose()
