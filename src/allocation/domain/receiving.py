"""The rules of purchased stock: how batches come and change, and which promises a shrinking one breaks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date

from allocation.domain.batches import Batch
from allocation.domain.errors import BatchConflict, StaleBatch, UnknownBatch
from allocation.domain.events import BatchCreated, BatchQuantityChanged, Deallocated
from allocation.domain.lines import Allocation
from allocation.domain.product import Product


def add_batch(product: Product, reference: str, qty: int, eta: date | None = None) -> None:
    """Add purchased stock. The identical batch again changes nothing. Raises BatchConflict."""
    if batch := product.batches.get(reference):
        if (batch.sku, batch.initial_quantity, batch.eta) != (product.sku, qty, eta):
            raise BatchConflict(batch)
        return
    product.record(BatchCreated(reference, product.sku, qty, eta))


def change_batch_quantity(
    product: Product, reference: str, qty: int, seen: Collection[tuple[int, int]] | None = None
) -> None:
    """State what the batch holds, and break its newest promises until the rest fits.

    They are recorded oldest promise first, the order in which the lines are to be allocated again. With `seen`, only
    if the batch's quantities are among these. Raises UnknownBatch, StaleBatch.
    """
    batch = product.batches.get(reference)
    if batch is None or batch.sku != product.sku:
        raise UnknownBatch(reference)
    if seen is not None and batch.quantities not in seen:
        raise StaleBatch(batch)
    if batch.purchased_quantity == qty:
        return
    broken = list(_newest_over(product, batch, qty))
    product.record(BatchQuantityChanged(reference, product.sku, qty))
    for allocation in reversed(broken):
        line = allocation.line
        product.record(Deallocated(line.orderid, line.sku, line.qty, reference, line.lineid))


def _newest_over(product: Product, batch: Batch, qty: int) -> Iterator[Allocation]:
    """The newest allocations to the batch, no more than it can't keep when it holds `qty`."""
    too_much = batch.allocated_quantity - qty
    if too_much <= 0:
        return
    for allocation in product.allocations.newest(batch):
        yield allocation
        too_much -= allocation.line.qty
        if too_much <= 0:
            return
