"""Every queue: who waits is known as waiting, and fits nowhere; nobody waits for a cancelled order."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from allocation.check.difference import Difference, the_batch, the_line
from allocation.check.streams import stream

_UNKNOWN = text("""
    SELECT waiting.sku, waiting.since, waiting.orderid, waiting.lineid, line.sku AS of_sku, line.since AS of_since
    FROM backorders AS waiting LEFT JOIN order_lines AS line USING (orderid, lineid)
    WHERE (waiting.sku, waiting.since) IS DISTINCT FROM (line.sku, line.since)
    ORDER BY orderid, lineid
""")

_COUNTS = text("""
    SELECT sku, coalesce(products.waiting, 0) AS counted, coalesce(queue.lines, 0) AS lines
    FROM products FULL JOIN (SELECT sku, count(*) AS lines FROM backorders GROUP BY sku) AS queue USING (sku)
    WHERE coalesce(products.waiting, 0) <> coalesce(queue.lines, 0)
    ORDER BY sku
""")

# Where it depends on the time zone whether a batch is past its day or comes too late, neither is reported.
_TOMORROW = "CAST(statement_timestamp() AT TIME ZONE 'UTC' AS date) + 1"
_FITS = text(f"""
    SELECT waiting.orderid, waiting.lineid, waiting.needs, batches.sku, reference,
           purchased_quantity - allocated_quantity AS available
    FROM backorders AS waiting JOIN batches
      ON batches.sku = waiting.sku AND is_open AND purchased_quantity - allocated_quantity >= needs
    JOIN order_lines AS line USING (orderid, lineid)
    WHERE (expires IS NULL OR expires > {_TOMORROW})
      AND (eta IS NULL OR needed_by IS NULL OR greatest(eta, {_TOMORROW}) <= needed_by)
      AND (coalesce(line.terms -> 'locations', '[]') = '[]' OR line.terms -> 'locations' ? batches.location)
    ORDER BY waiting.orderid, waiting.lineid, reference
""")  # noqa: S608 - all of it is our own

_CANCELLED = text("""
    SELECT orderid, lineid, qty, sku FROM backorders JOIN orders USING (orderid) WHERE cancelled
    ORDER BY orderid, lineid
""")


def differences(connection: Connection) -> Iterator[Difference]:
    for row in stream(connection, _UNKNOWN):
        known = "none" if row.of_sku is None else f"{row.of_since} of {row.of_sku!r}"
        yield Difference(f"backorder {row.since} of {row.sku!r}, by {the_line(row.orderid, row.lineid)}", known, "it")
    for row in stream(connection, _COUNTS):
        yield Difference(f"product {row.sku!r}, lines that wait", row.lines, row.counted)
    for row in stream(connection, _FITS):
        what = f"{the_line(row.orderid, row.lineid)}, which waits for {row.needs}"
        room = f"{row.available} in {the_batch(row.reference, row.sku)}"
        yield Difference(f"{what}, room for it", "none", room)
    for row in stream(connection, _CANCELLED):
        what = f"{the_line(row.orderid, row.lineid)}, waiting although the order is cancelled"
        yield Difference(what, None, f"{row.qty} of {row.sku!r}")
