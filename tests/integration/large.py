"""Much history, made by SQL around the service, on tables that stay as they were analyzed: when there was nothing."""

from __future__ import annotations

from sqlalchemy import Connection, text

LINES = 30_000
WAITING = 10_000
"""Of each of two kinds: one product that has them all, and a thousand that share them."""

_FILL = f"""
    CREATE TEMP TABLE sold AS
    SELECT 'SKU-' || number % 1000 AS sku, 2 + number / 1000 AS version, 'order-' || number AS orderid,
           'batch-' || number % 1000 AS batchref
    FROM generate_series(0, {LINES} - 1) AS number
    UNION ALL
    SELECT 'HOT', 1002 + number, 'hot-' || number,
           CASE WHEN number < {LINES} / 2 THEN 'open' ELSE 'exhausted-' || number % 1000 END
    FROM generate_series(0, {LINES} - 1) AS number;

    INSERT INTO products SELECT 'SKU-' || number, 1 + {LINES} / 1000 FROM generate_series(0, 999) AS number;
    INSERT INTO products VALUES ('HOT', 1001 + {LINES});

    INSERT INTO batches
    SELECT 'SKU-' || number, 'batch-' || number, NULL::date, 1000, 1000, {LINES} / 1000, 1
    FROM generate_series(0, 999) AS number
    UNION ALL
    SELECT 'HOT', 'exhausted-' || number, NULL, {LINES} / 2000, {LINES} / 2000, {LINES} / 2000, 1 + number
    FROM generate_series(0, 999) AS number
    UNION ALL
    SELECT 'HOT', 'open', NULL, 1000000, 1000000, {LINES} / 2, 1001;

    INSERT INTO products (sku, version_number, waiting) VALUES ('WANTED', 1 + {LINES}, {LINES});
    INSERT INTO batches SELECT 'WANTED', 'gone', NULL, 0, 0, 0, 1;
    INSERT INTO backorders (sku, since, orderid, lineid, qty, needs, turn, places, needed_by)
    SELECT 'WANTED', 1 + number, 'wanted-' || number, 'WANTED', 11 + number % 20, 11 + number % 20, -5, 1,
           CASE WHEN number % 2 = 0 THEN date '2020-01-01' + number / 2000 END
    FROM generate_series(1, {LINES}) AS number;
    INSERT INTO order_lines (orderid, lineid, sku, since, terms)
    SELECT orderid, lineid, sku, since, '{{"waits": true}}' FROM backorders WHERE sku = 'WANTED';

    INSERT INTO products VALUES ('LATE', 2 + 2 * {LINES});
    INSERT INTO batches
    SELECT 'LATE', 'late', date '2031-06-01', {LINES}, {LINES}, {LINES}, 1
    UNION ALL
    SELECT 'LATE', 'in time', NULL, {LINES}, {LINES}, {LINES}, 2;
    INSERT INTO allocations (sku, version, orderid, lineid, qty, batchref, needed_by)
    SELECT 'LATE', 2 + number, 'late-' || number, 'LATE', 1,
           CASE WHEN number % 2 = 0 THEN 'late' ELSE 'in time' END, date '2020-01-01' + number / 2000
    FROM generate_series(1, 2 * {LINES}) AS number;

    INSERT INTO batch_references SELECT reference, sku FROM batches ON CONFLICT DO NOTHING;
    INSERT INTO order_lines SELECT orderid, sku, sku, version FROM sold;
    INSERT INTO allocations SELECT sku, version, orderid, sku, 1, batchref FROM sold;
    INSERT INTO allocations_view (orderid, lineid, sku, qty, batchref) SELECT orderid, sku, sku, 1, batchref FROM sold;

    INSERT INTO event_log (stream, version, id, type, data, correlation_id, causation_id, source, time, effects)
    SELECT sku, version, gen_random_uuid(), 'allocated.v1',
           jsonb_build_object('orderid', orderid, 'sku', sku, 'qty', 1, 'batchref', batchref, 'lineid', sku),
           'correlation', 'causation', 'http', now(), '["publish_event"]'
    FROM sold;

    INSERT INTO outbox (effect, stream, version)
    SELECT 'publish_event', sku, version FROM sold
    WHERE version > CASE sku WHEN 'HOT' THEN 1001 + {LINES} - {WAITING} ELSE 1 + ({LINES} - {WAITING}) / 1000 END;

    INSERT INTO deliveries (effect, stream, delivered_version, delivered_count)
    SELECT effect, sku, version_number - {WAITING}, version_number - {WAITING}
    FROM products CROSS JOIN unnest('{{publish_event,another}}'::text[]) AS effect WHERE sku = 'HOT'
    UNION ALL
    SELECT effect, sku, version_number - {WAITING} / 1000, version_number - {WAITING} / 1000
    FROM products CROSS JOIN unnest('{{publish_event,another}}'::text[]) AS effect WHERE sku LIKE 'SKU-%';

    INSERT INTO dropped_effects (effect, stream, version, reason, dropped_by)
    SELECT 'publish_event', 'HOT', number, 'as a test', 'nobody' FROM generate_series(1002, 11001) AS number;

    INSERT INTO inbox SELECT 'message-' || number, 'fingerprint', '{{}}', now() - number * interval '10 seconds'
    FROM generate_series(1, 20000) AS number;

    INSERT INTO dead_letters (source, message_id, body, reason)
    SELECT 'channel', 'message-' || number, '', 'as a test' FROM generate_series(1, 2000) AS number;
"""

_FEW_IN_MANY_PAGES = """
    UPDATE pg_class SET reltuples = 10, relpages = pg_relation_size(oid) / current_setting('block_size')::integer
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


def analyze_and_leave_alone(connection: Connection) -> None:
    """No autovacuum comes by and learns how large the tables are."""
    tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
    for table in tables:
        connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
    connection.execute(text("ANALYZE"))


def mislead(connection: Connection) -> None:
    """As the planner is told by an ANALYZE that found ten rows in files from which many had been deleted."""
    connection.exec_driver_sql(_FEW_IN_MANY_PAGES)


def fill(connection: Connection) -> None:
    connection.exec_driver_sql(_FILL.replace("%", "%%"))
