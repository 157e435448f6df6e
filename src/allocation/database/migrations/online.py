"""Indexes that come and go while others read and write.

Each is done outside of a transaction, so a revision that was cut short is run again from its beginning: what is half
made or made already must not be in its way.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op
from sqlalchemy import TextClause, text

LOCK_TIMEOUT = "1s"


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
