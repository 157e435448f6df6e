"""Indexes that come and go, and rows that are filled, while others read and write.

Each is done outside of a transaction, so a revision that was cut short is run again from its beginning: what is half
made or made already must not be in its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alembic import op
from sqlalchemy import Connection, TextClause, text

from messaging.errors import ConcurrencyConflict
from messaging.retry import Retry
from messaging.sql.errors import Faults, translated
from messaging.sql.limits import BY_KEY

LOCK_TIMEOUT = "1s"
ROWS_AT_A_TIME = 1_000
PATIENCE = 60.0
"""Seconds in which so many rows must be filled, however often somebody else is at one of them."""


def create_index(
    name: str, table: str, columns: Sequence[str | TextClause], where: str | None = None, *, unique: bool = False
) -> None:
    condition = None if where is None else text(where)
    drop_index(name, table)
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # it waits for old transactions, and nobody waits for it
        op.create_index(
            name, table, list(columns), unique=unique, postgresql_where=condition, postgresql_concurrently=True
        )
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")


def drop_index(name: str, table: str) -> None:
    with op.get_context().autocommit_block():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def fill(statement: TextClause, place: Mapping[str, object]) -> None:
    """Execute it again and again, each time in a transaction of its own. It takes a place, looks at the next `:most`
    rows behind it, changes what is not changed yet, and returns the place of the last one; no row, when there are no
    more."""
    behind: Mapping[str, object] | None = place
    retry = Retry(conflict_deadline=PATIENCE, first_wait=0.1, longest_wait=1.0)
    with op.get_context().autocommit_block():
        for name, value in BY_KEY.items():
            op.execute(f"SET {name} = {value}")
        while behind:
            behind = retry(lambda position=behind: fill_some(op.get_bind(), statement, position))  # type: ignore[misc]
        for name in BY_KEY:
            op.execute(f"RESET {name}")


def fill_some(connection: Connection, statement: TextClause, place: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Raises ConcurrencyConflict, when a row stays locked. A connection that is lost is lost with its locks."""
    try:
        found = connection.execute(statement, {**place, "most": ROWS_AT_A_TIME}).mappings().first()
    except Faults as error:
        if isinstance(meaning := translated(error), ConcurrencyConflict):
            raise meaning from error
        raise
    return dict(found) if found else None
