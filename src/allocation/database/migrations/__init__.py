"""The database's schema, step by step. Part of the package, so that whatever is installed can migrate.

The service may be at work meanwhile. So each revision is a transaction of its own, and lets go soon; none waits long
for a lock, since all others would wait behind it; and indexes are built, and rows are filled, `online`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, text

from allocation.database.migrations.online import LOCK_TIMEOUT
from allocation.database.schema import REVISION, is_numbered, require_utf8
from messaging.errors import ConcurrencyConflict, Unavailable
from messaging.retry import Retry
from messaging.sql.connections import connection

T = TypeVar("T")

_ONE_AT_A_TIME = 500_554_321  # the advisory lock that migrating processes come back for until they have it
PATIENCE = 120.0
"""Seconds in which a migration must have got all that it has to lock."""


def upgrade(database_url: str, revision: str = REVISION, patience: float = PATIENCE) -> str:
    """Bring the schema up to a revision and return it, or a later one where it is; processes that start together do it
    one after another.

    Raises Unavailable; what is done by then stays, and the next try goes on from there.
    """

    def step(config: Config) -> str:
        if later := _later_revision(config.attributes["connection"]):
            return later
        command.upgrade(config, revision)
        return revision

    return _migrate(database_url, step, patience)


def _later_revision(open_connection: Connection) -> str:
    """The number of one that only a later release knows, else nothing. Raises Unavailable for what is none."""
    heads = MigrationContext.configure(open_connection).get_current_heads()
    open_connection.commit()
    if len(heads) > 1 or not all(map(is_numbered, heads)):
        revisions = ", ".join(map(repr, sorted(heads)))
        raise Unavailable(
            f"the table alembic_version has {revisions}, not one number of a revision such as {REVISION!r}"
        )
    return next((head for head in heads if head > REVISION), "")


def downgrade(database_url: str, revision: str) -> None:
    """Take the schema back to a revision, with all that later ones added."""
    _migrate(database_url, lambda config: command.downgrade(config, revision), PATIENCE)


def _migrate(database_url: str, step: Callable[[Config], T], patience: float) -> T:
    engine = create_engine(database_url, connect_args={"connect_timeout": 5, "client_encoding": "utf8"})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    retry = Retry(conflict_deadline=patience, first_wait=0.1, longest_wait=1.0)
    try:
        return retry(lambda: _step_alone(engine, config, step))
    finally:
        engine.dispose()


def _step_alone(engine: Engine, config: Config, step: Callable[[Config], T]) -> T:
    with connection(engine, "READ COMMITTED") as open_connection, _alone(open_connection):
        require_utf8(open_connection)
        open_connection.commit()
        config.attributes["connection"] = open_connection
        return step(config)


@contextmanager
def _alone(open_connection: Connection) -> Iterator[None]:
    """Nobody waits for this lock: whoever waits has a snapshot, and an index that is built online waits for that."""
    ours = open_connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ONE_AT_A_TIME}).scalar_one()
    open_connection.commit()
    if not ours:
        raise ConcurrencyConflict("another process migrates")
    try:
        open_connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        open_connection.commit()
        yield
    finally:
        open_connection.invalidate()  # which lets go of the lock, whatever state the session is in
