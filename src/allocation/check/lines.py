"""Every allocated line: once among the promises, once in the index of lines, once in the read model, all the same."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from allocation.check.difference import Difference, the_line
from allocation.check.streams import stream

_COUNTS = text("""
    WITH rows AS (
        SELECT orderid, lineid, 1 AS in_allocations, 0 AS in_order_lines, 0 AS in_view FROM allocations
        UNION ALL
        SELECT orderid, lineid, 0, 1, 0 FROM order_lines
        UNION ALL
        SELECT orderid, lineid, 0, 0, 1 FROM allocations_view
    )
    SELECT orderid, lineid, sum(in_allocations) AS in_allocations, sum(in_order_lines) AS in_order_lines,
           sum(in_view) AS in_view
    FROM rows GROUP BY orderid, lineid
    HAVING (sum(in_allocations), sum(in_order_lines), sum(in_view)) <> (1, 1, 1)
    ORDER BY orderid, lineid
""")

_ORDER_LINES = text("""
    SELECT orderid, lineid, allocations.sku, allocations.version, order_lines.sku AS line_sku,
           order_lines.version AS line_version
    FROM allocations JOIN order_lines USING (orderid, lineid)
    WHERE (allocations.sku, allocations.version) <> (order_lines.sku, order_lines.version)
    ORDER BY orderid, lineid
""")

_VIEW = text("""
    SELECT orderid, lineid, allocations.sku, allocations.qty, allocations.batchref, view.sku AS view_sku,
           view.qty AS view_qty, view.batchref AS view_batchref
    FROM allocations JOIN allocations_view AS view USING (orderid, lineid)
    WHERE (allocations.sku, allocations.qty, allocations.batchref) <> (view.sku, view.qty, view.batchref)
    ORDER BY orderid, lineid
""")


def differences(connection: Connection) -> Iterator[Difference]:
    for row in stream(connection, _COUNTS):
        what = f"{the_line(row.orderid, row.lineid)}, rows in allocations, order_lines and allocations_view"
        found = f"{row.in_allocations}, {row.in_order_lines} and {row.in_view}"
        yield Difference(what, "1, 1 and 1", found)
    for row in stream(connection, _ORDER_LINES):
        what = f"{the_line(row.orderid, row.lineid)}, allocation named in order_lines"
        yield Difference(what, f"{row.version} of {row.sku!r}", f"{row.line_version} of {row.line_sku!r}")
    for row in stream(connection, _VIEW):
        what = f"{the_line(row.orderid, row.lineid)} in allocations_view"
        expected = f"{row.qty} of {row.sku!r} from batch {row.batchref!r}"
        found = f"{row.view_qty} of {row.view_sku!r} from batch {row.view_batchref!r}"
        yield Difference(what, expected, found)
