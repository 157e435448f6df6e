"""The rule of allocation: which batch a line is promised from."""

from __future__ import annotations

from allocation.domain.batches import Batch
from allocation.domain.errors import InvalidSku, LineConflict, OrderIsCancelled
from allocation.domain.events import Allocated, OutOfStock
from allocation.domain.lines import OrderLine
from allocation.domain.product import Product


def allocate(product: Product, line: OrderLine) -> str | None:
    """Promise the line from the best batch that has room, and return its reference; None: out of stock.

    A line that is allocated already keeps its batch, and nothing changes. Raises InvalidSku, OrderIsCancelled,
    LineConflict.
    """
    if not product.version_number:
        raise InvalidSku(product.sku)
    if product.lines.is_cancelled(line.orderid):
        raise OrderIsCancelled(line.orderid)
    placed = product.lines.get(line.key)
    if placed and placed.qty:
        if (placed.sku, placed.qty) != (line.sku, line.qty) or not placed.allocations:
            raise LineConflict(placed)
        return placed.allocations[0].batchref
    return place(product, line)


def place(product: Product, line: OrderLine) -> str | None:
    """Promise what is asked for from the best batch that has room, and return its reference; None: out of stock."""
    batch = choose(product, line.qty)
    if batch is None:
        product.record(OutOfStock(line.orderid, line.sku, line.qty, line.lineid))
        return None
    product.record(Allocated(line.orderid, line.sku, line.qty, batch.reference, line.lineid))
    return batch.reference


def choose(product: Product, qty: int) -> Batch | None:
    """The preferred batch that has so much available; what has expired is not for sale."""
    for batch in product.batches.preferred(product.sku):
        if batch.available_quantity >= qty and not product.is_expired(batch):
            return batch
    return None
