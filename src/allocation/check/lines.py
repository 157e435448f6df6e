"""Every line: what it has of which batch, once among the allocations, once in the index of lines, once in the read
model, all the same; and nothing that is promised to a cancelled order."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from allocation.check.difference import Difference, the_line
from allocation.check.streams import stream

_NAMED = text("""
    SELECT coalesce(named.orderid, allocations.orderid) AS orderid,
           coalesce(named.lineid, allocations.lineid) AS lineid, sku, version,
           named.orderid IS NOT NULL AS is_named, allocations.orderid IS NOT NULL AS is_there,
           (named.orderid, named.lineid) = (allocations.orderid, allocations.lineid) AS is_its_own
    FROM allocations FULL JOIN (
        SELECT orderid, lineid, sku, named.version
        FROM order_lines CROSS JOIN LATERAL (SELECT order_lines.version UNION ALL SELECT unnest(others)) AS named
        WHERE order_lines.version IS NOT NULL
    ) AS named USING (sku, version)
    WHERE ((named.orderid, named.lineid) = (allocations.orderid, allocations.lineid)) IS NOT TRUE
    ORDER BY 1, 2, version
""")

_TWICE = text("""
    SELECT orderid, lineid, count(*) AS rows FROM order_lines GROUP BY orderid, lineid HAVING count(*) > 1
    ORDER BY orderid, lineid
""")

_VIEW = text("""
    SELECT orderid, lineid, batchref, placed.sku, placed.qty,
           shown.sku AS shown_sku, shown.qty AS shown_qty, shown.rows
    FROM (
        SELECT orderid, lineid, batchref, sku, CAST(qty AS bigint) + dispatched AS qty FROM allocations
    ) AS placed FULL JOIN (
        SELECT orderid, lineid, batchref, min(sku) AS sku, sum(qty) AS qty, count(*) AS rows
        FROM allocations_view GROUP BY orderid, lineid, batchref
    ) AS shown USING (orderid, lineid, batchref)
    WHERE (placed.sku, placed.qty, 1) IS DISTINCT FROM (shown.sku, shown.qty, shown.rows)
    ORDER BY orderid, lineid, batchref
""")

_PROMISED_THOUGH_CANCELLED = text("""
    SELECT orderid, lineid, qty, sku FROM allocations JOIN orders USING (orderid) WHERE cancelled AND qty > 0
    ORDER BY orderid, lineid
""")

_CANCELLED = text("""
    SELECT orderid, orders.orderid IS NOT NULL AS is_cancelled
    FROM (SELECT orderid FROM orders WHERE cancelled) AS orders FULL JOIN (
        SELECT DISTINCT data ->> 'orderid' AS orderid FROM event_log WHERE type = 'order_cancelled.v1'
    ) AS recorded USING (orderid)
    WHERE orders.orderid IS NULL OR recorded.orderid IS NULL
    ORDER BY orderid
""")


def differences(connection: Connection) -> Iterator[Difference]:
    for row in stream(connection, _NAMED):
        what = f"allocation {row.version} of {row.sku!r}, of {the_line(row.orderid, row.lineid)}"
        if row.is_named and row.is_there:
            yield Difference(f"{what}, named in order_lines", "by its own line", "by another")
        else:
            yield Difference(f"{what}, named in order_lines", int(row.is_there), int(row.is_named))
    for row in stream(connection, _TWICE):
        yield Difference(f"{the_line(row.orderid, row.lineid)}, rows in order_lines", 1, row.rows)
    for row in stream(connection, _VIEW):
        what = f"{the_line(row.orderid, row.lineid)} in allocations_view"
        if row.rows not in {None, 1}:
            yield Difference(f"{what}, rows for batch {row.batchref!r}", 1, row.rows)
            continue
        expected = None if row.sku is None else f"{row.qty} of {row.sku!r} from batch {row.batchref!r}"
        found = None if row.rows is None else f"{row.shown_qty} of {row.shown_sku!r} from batch {row.batchref!r}"
        yield Difference(what, expected, found)
    for row in stream(connection, _PROMISED_THOUGH_CANCELLED):
        what = f"{the_line(row.orderid, row.lineid)}, promised although the order is cancelled"
        yield Difference(what, None, f"{row.qty} of {row.sku!r}")
    for row in stream(connection, _CANCELLED):
        what = f"order {row.orderid!r}, cancelled by its events"
        yield Difference(what, "no" if row.is_cancelled else "yes", "yes" if row.is_cancelled else "no")
