"""Which promises are broken when a batch falls short: its newest, and no more than must be."""

from __future__ import annotations

from collections.abc import Iterator

from allocation.domain.batches import Batch
from allocation.domain.events import Deallocated
from allocation.domain.lines import Allocation
from allocation.domain.product import Product


def break_newest(product: Product, batch: Batch) -> None:
    """Until what is left fits. They are recorded oldest promise first, the order in which the lines are to be allocated
    again."""
    broken = list(_newest_over(product, batch, -batch.available_quantity))
    product.lines.prefetch([allocation.line.key for allocation in broken])
    for allocation in reversed(broken):
        line = allocation.line
        product.record(Deallocated(line.orderid, line.sku, line.qty, batch.reference, line.lineid))


def _newest_over(product: Product, batch: Batch, too_much: int) -> Iterator[Allocation]:
    if too_much <= 0:
        return
    for allocation in product.lines.newest(batch):
        yield allocation
        too_much -= allocation.line.qty
        if too_much <= 0:
            return
