"""Every batch against its lines, its holds and its reference."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from allocation.check.difference import Difference, the_batch
from allocation.check.streams import stream
from allocation.views.batches import PROMISED

_COUNTERS = text(f"""
    SELECT sku, reference, coalesce(of_lines.promised, 0) AS promised_to_lines, {PROMISED} AS promised,
           coalesce(of_lines.dispatched, 0) AS dispatched_to_lines,
           coalesce(dispatched_quantity, 0) AS dispatched_quantity
    FROM batches FULL JOIN (
        SELECT sku, batchref AS reference, sum(qty) AS promised, sum(dispatched) AS dispatched
        FROM allocations GROUP BY sku, batchref
    ) AS of_lines USING (sku, reference)
    WHERE {PROMISED} IS DISTINCT FROM coalesce(of_lines.promised, 0)
       OR dispatched_quantity IS DISTINCT FROM coalesce(of_lines.dispatched, 0)
    ORDER BY sku, reference
""")  # noqa: S608 - all of it is our own

_HELD = text("""
    SELECT sku, reference, coalesce(of_holds.qty, 0) AS by_holds, coalesce(held_quantity, 0) AS held_quantity
    FROM batches FULL JOIN (SELECT sku, batchref AS reference, sum(qty) AS qty FROM holds GROUP BY sku, batchref)
        AS of_holds USING (sku, reference)
    WHERE held_quantity IS DISTINCT FROM coalesce(of_holds.qty, 0)
    ORDER BY sku, reference
""")

_EXPIRED = text("""
    SELECT sku, reference, expires, purchased_quantity - allocated_quantity AS available FROM batches
    WHERE expired AND eta IS NULL AND is_open ORDER BY sku, reference
""")

_OVERSOLD = text("""
    SELECT sku, reference, allocated_quantity, purchased_quantity FROM batches
    WHERE NOT (0 <= allocated_quantity AND allocated_quantity <= purchased_quantity)
    ORDER BY sku, reference
""")

_PARTS = text(f"""
    SELECT sku, reference, {PROMISED} AS promised, held_quantity, dispatched_quantity, quarantined_quantity FROM batches
    WHERE least({PROMISED}, held_quantity, dispatched_quantity, quarantined_quantity) < 0
    ORDER BY sku, reference
""")  # noqa: S608 - all of it is our own

_LEFT_BEFORE_IT_CAME = text("""
    SELECT sku, reference, dispatched_quantity, eta FROM batches WHERE dispatched_quantity > 0 AND eta IS NOT NULL
    ORDER BY sku, reference
""")

_REFERENCES = text("""
    SELECT reference, batches.sku AS sku, batch_references.sku AS referenced
    FROM batches FULL JOIN batch_references USING (reference)
    WHERE batches.sku IS DISTINCT FROM batch_references.sku
    ORDER BY reference
""")


def differences(connection: Connection) -> Iterator[Difference]:
    for row in stream(connection, _COUNTERS):
        the = the_batch(row.reference, row.sku)
        if row.promised != row.promised_to_lines:
            yield Difference(f"{the}, promised quantity by its lines", row.promised_to_lines, row.promised)
        if row.dispatched_quantity != row.dispatched_to_lines:
            what = f"{the}, dispatched quantity by its lines"
            yield Difference(what, row.dispatched_to_lines, row.dispatched_quantity)
    for row in stream(connection, _HELD):
        yield Difference(
            f"{the_batch(row.reference, row.sku)}, held quantity by holds", row.by_holds, row.held_quantity
        )
    for row in stream(connection, _EXPIRED):
        what = f"{the_batch(row.reference, row.sku)}, available although it expired on {row.expires}"
        yield Difference(what, 0, row.available)
    for row in stream(connection, _OVERSOLD):
        what = f"{the_batch(row.reference, row.sku)}, allocated quantity"
        yield Difference(what, f"from 0 to the purchased {row.purchased_quantity}", row.allocated_quantity)
    for row in stream(connection, _PARTS):
        parts = f"{row.promised}, {row.held_quantity}, {row.dispatched_quantity} and {row.quarantined_quantity}"
        what = f"{the_batch(row.reference, row.sku)}, promised, held, dispatched and quarantined quantity"
        yield Difference(what, "none below 0", parts)
    for row in stream(connection, _LEFT_BEFORE_IT_CAME):
        what = f"{the_batch(row.reference, row.sku)}, dispatched quantity while it is expected on {row.eta}"
        yield Difference(what, 0, row.dispatched_quantity)
    for row in stream(connection, _REFERENCES):
        what = f"batch reference {row.reference!r}, SKU by its batch"
        yield Difference(what, row.sku and repr(row.sku), row.referenced and repr(row.referenced))
