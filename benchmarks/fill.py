"""Makes much history in little time, by SQL around the service, and so that the data is consistent all the same."""

from __future__ import annotations

from datetime import date

from psycopg import Connection, sql
from psycopg.rows import TupleRow

_LINES = """
    CREATE TEMP TABLE made ON COMMIT DROP AS
    SELECT sku, version_number + number AS version, %s || sku || '-' || number AS orderid, 'batch-' || sku AS batchref
    FROM products CROSS JOIN generate_series(1, %s) AS number WHERE sku = ANY(%s) ORDER BY number, sku"""
_WRITES = (
    "INSERT INTO order_lines SELECT orderid, sku, sku, version FROM made",
    "INSERT INTO allocations (sku, version, orderid, lineid, qty, batchref) "
    "SELECT sku, version, orderid, sku, 1, batchref FROM made",
    "INSERT INTO allocations_view (orderid, lineid, sku, qty, batchref) "
    "SELECT orderid, sku, sku, 1, batchref FROM made",
    """
    INSERT INTO event_log (stream, version, id, type, data, correlation_id, causation_id, source, time, effects)
    SELECT sku, version, gen_random_uuid(), 'allocated.v1', jsonb_build_object(
               'orderid', orderid, 'sku', sku, 'qty', 1, 'batchref', batchref, 'lineid', sku),
           gen_random_uuid()::text, gen_random_uuid()::text, 'http', clock_timestamp(), '["publish_event"]'
    FROM made""",
    "INSERT INTO outbox (effect, stream, version) SELECT 'publish_event', sku, version FROM made",
    """
    UPDATE batches SET allocated_quantity = allocated_quantity + lines
    FROM (SELECT sku, batchref, count(*) AS lines FROM made GROUP BY sku, batchref) AS promised
    WHERE batches.sku = promised.sku AND reference = batchref""",
    """
    UPDATE products SET version_number = newest
    FROM (SELECT sku, max(version) AS newest FROM made GROUP BY sku) AS made WHERE products.sku = made.sku""",
)


def allocate_lines(connection: Connection[TupleRow], skus: list[str], each: int, prefix: str = "filled-") -> None:
    """So many lines of one piece for each SKU, promised from its batch `batch-<sku>`, with all that follows."""
    with connection.transaction():
        connection.execute(_LINES, (prefix, each, skus))
        for statement in _WRITES:
            connection.execute(statement.encode())
    refresh_statistics(connection)


def view_of(connection: Connection[TupleRow], rows: int) -> None:
    """A read model of so many orders, `order-1` and so on, and nothing beneath it."""
    connection.execute(
        "INSERT INTO allocations_view (orderid, lineid, sku, qty, batchref) "
        "SELECT 'order-' || number, 'SKU', 'SKU', 1, 'batch' FROM generate_series(1, %s) AS number",
        (rows,),
    )
    refresh_statistics(connection)


def refresh_statistics(connection: Connection[TupleRow]) -> None:
    """Of the tables that have rows. A table known to be empty would be read whole by statements prepared now."""
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    for (name,) in tables:
        table = sql.Identifier(name)
        if connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table)).fetchone():
            connection.execute(sql.SQL("VACUUM ANALYZE {}").format(table))


_QUEUE = """
    CREATE TEMP TABLE made ON COMMIT DROP AS
    SELECT sku, version_number + number AS version, 'waits-' || sku || '-' || version_number + number AS orderid,
           20 + number %% 20 AS qty, CAST(%(needed_by)s AS date) AS needed_by
    FROM products CROSS JOIN generate_series(1, %(lines)s) AS number WHERE sku = %(sku)s"""
_WAIT = (
    """
    INSERT INTO order_lines (orderid, lineid, sku, since, terms)
    SELECT orderid, sku, sku, version, jsonb_build_object(
               'priority', 5, 'needed_by', needed_by, 'may_split', false, 'waits', true, 'locations', '[]'::jsonb)
    FROM made""",
    """
    INSERT INTO backorders (sku, since, orderid, lineid, qty, needs, turn, needed_by, places)
    SELECT sku, version, orderid, sku, qty, qty, -5, needed_by, (1::bigint << 62) - 1 FROM made""",
    """
    INSERT INTO event_log (stream, version, id, type, data, correlation_id, causation_id, source, time, effects)
    SELECT sku, version, gen_random_uuid(), 'backordered.v1', jsonb_strip_nulls(jsonb_build_object(
               'orderid', orderid, 'sku', sku, 'qty', qty, 'lineid', sku, 'since', version, 'needed_by', needed_by)),
           gen_random_uuid()::text, gen_random_uuid()::text, 'http', clock_timestamp(), '["publish_event"]'
    FROM made""",
    "INSERT INTO outbox (effect, stream, version) SELECT 'publish_event', sku, version FROM made",
    """
    UPDATE products SET version_number = newest, waiting = waiting + lines
    FROM (SELECT sku, max(version) AS newest, count(*) AS lines FROM made GROUP BY sku) AS made
    WHERE products.sku = made.sku""",
)


_HOLDS = """
    INSERT INTO holds (sku, hold_id, qty, batchref, until, version)
    SELECT %(sku)s, 'cart-' || number, 1, %(batchref)s, now() + '1 day', 1 + number
    FROM generate_series(1, %(many)s) AS number
"""


def holds_that_last(connection: Connection[TupleRow], sku: str, batchref: str, many: int) -> None:
    """Of one piece each; the product's history does not tell of them."""
    about = {"sku": sku, "batchref": batchref, "many": many}
    with connection.transaction():
        connection.execute(_HOLDS, about)
        connection.execute("UPDATE products SET holds = %(many)s WHERE sku = %(sku)s", about)
        connection.execute(
            "UPDATE batches SET held_quantity = %(many)s, allocated_quantity = %(many)s WHERE reference = %(batchref)s",
            about,
        )
    refresh_statistics(connection)


def lines_that_wait(connection: Connection[TupleRow], sku: str, lines: int, needed_by: date | None = None) -> None:
    """For 20 to 39 pieces each."""
    with connection.transaction():
        connection.execute(_QUEUE, {"sku": sku, "lines": lines, "needed_by": needed_by})
        for statement in _WAIT:
            connection.execute(statement.encode())
    refresh_statistics(connection)
