"""Which promises are broken when a batch falls short: of the lowest priority the newest, and no more than must be."""

from __future__ import annotations

from collections.abc import Iterator

from allocation.domain.batches import Batch
from allocation.domain.events import Deallocated
from allocation.domain.lines import Allocation
from allocation.domain.product import Product


def break_newest(product: Product, batch: Batch) -> None:
    """Until what is left fits. They are recorded the other way round, of the highest priority the oldest first: the
    order in which the lines are to be allocated again."""
    broken = list(_until_it_fits(product, batch, -batch.available_quantity))
    product.lines.prefetch([allocation.line.key for allocation, _ in broken])
    for allocation, qty in reversed(broken):
        line = allocation.line
        product.record(Deallocated(line.orderid, line.sku, qty, batch.reference, line.lineid))


def _until_it_fits(product: Product, batch: Batch, too_much: int) -> Iterator[tuple[Allocation, int]]:
    """Each with how much of it: all, but of the last one, if that may be split, what must be."""
    if too_much <= 0:
        return
    for allocation in product.lines.first_to_break(batch):
        qty = allocation.line.qty
        if qty > too_much and product.lines[allocation.line.key].terms.may_split:
            qty = too_much
        yield allocation, qty
        too_much -= qty
        if too_much <= 0:
            return
