"""Every batch against its lines and its reference."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from allocation.check.difference import Difference, the_batch
from allocation.check.streams import stream

_COUNTERS = text("""
    SELECT sku, reference, coalesce(promised.quantity, 0) AS promised, allocated_quantity
    FROM batches FULL JOIN (
        SELECT sku, batchref AS reference, sum(qty) AS quantity FROM allocations GROUP BY sku, batchref
    ) AS promised USING (sku, reference)
    WHERE allocated_quantity IS DISTINCT FROM coalesce(promised.quantity, 0)
    ORDER BY sku, reference
""")

_OVERSOLD = text("""
    SELECT sku, reference, allocated_quantity, purchased_quantity FROM batches
    WHERE NOT (0 <= allocated_quantity AND allocated_quantity <= purchased_quantity)
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
        what = f"{the_batch(row.reference, row.sku)}, allocated quantity by its lines"
        yield Difference(what, row.promised, row.allocated_quantity)
    for row in stream(connection, _OVERSOLD):
        what = f"{the_batch(row.reference, row.sku)}, allocated quantity"
        yield Difference(what, f"from 0 to the purchased {row.purchased_quantity}", row.allocated_quantity)
    for row in stream(connection, _REFERENCES):
        what = f"batch reference {row.reference!r}, SKU by its batch"
        yield Difference(what, row.sku and repr(row.sku), row.referenced and repr(row.referenced))
