"""The rule of allocation: which batch a line is promised from."""

from __future__ import annotations

from allocation.domain.errors import InvalidSku, LineConflict
from allocation.domain.events import Allocated, OutOfStock
from allocation.domain.lines import OrderLine
from allocation.domain.product import Product


def allocate(product: Product, line: OrderLine) -> str | None:
    """Promise the line from the best batch that has room, and return its reference; None: out of stock.

    A line that is allocated already keeps its batch, and nothing changes. Raises InvalidSku, LineConflict.
    """
    if not product.version_number:
        raise InvalidSku(product.sku)
    if allocation := product.allocations.get(line.key):
        if allocation.line != line:
            raise LineConflict(allocation.line)
        return allocation.batchref
    for batch in product.batches.preferred(product.sku):
        if batch.available_quantity >= line.qty:
            product.record(Allocated(line.orderid, line.sku, line.qty, batch.reference, line.lineid))
            return batch.reference
    product.record(OutOfStock(line.orderid, line.sku, line.qty, line.lineid))
    return None
