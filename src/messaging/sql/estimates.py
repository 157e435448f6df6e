"""How large a table is, for those who show how far they are: in no time, and roughly."""

from __future__ import annotations

from sqlalchemy import Engine, text

from messaging.sql.connections import connection

# By parts, where the table is cut into partitions; -1 in one that was never looked at.
_ROWS = text("""
    SELECT CAST(sum(greatest(reltuples, 0)) AS bigint) FROM pg_class
    WHERE relkind = 'r' AND (
        oid = to_regclass(:name) OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass(:name))))
""")


def rows_about(engine: Engine, table: str) -> int | None:
    """As the planner believes; None if it does not know. Raises Unavailable."""
    with connection(engine) as open_connection:
        return open_connection.execute(_ROWS, {"name": table}).scalar_one() or None
