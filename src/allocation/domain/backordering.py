"""The rule of backorders: they are served first, in their turn, as soon as a batch has room for them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from operator import attrgetter

from allocation.domain.allocating import choose, record_allocated
from allocation.domain.batches import Batch
from allocation.domain.events import BatchExpired
from allocation.domain.lines import PlacedLine
from allocation.domain.product import Product


def fill(product: Product) -> None:
    """Serve those who wait from the batches that have got room since, once nothing is displaced any more. In their
    turn, each that fits, from the batch that it would choose; who does not fit waits on. What is free again of goods
    that are known to have expired goes into quarantine."""
    if not product.freed_batches or product.lines.has_displaced(product.sku):
        return
    freed = [product.batches[reference] for reference in product.freed_batches]
    product.freed_batches.clear()
    for batch in freed:
        if batch.expired and batch.is_received and batch.available_quantity > 0:  # it came back, or was found
            product.record(BatchExpired(batch.reference, product.sku, batch.available_quantity))
    if product.waiting:
        freed.sort(key=attrgetter("preference"))
        for line in _in_turn(product, freed):
            for batch, qty in choose(product, line.waiting, line.terms, among=freed):
                record_allocated(product, line, line.terms, batch, qty, waited=True)


def _in_turn(product: Product, freed: Sequence[Batch]) -> Iterator[PlacedLine]:
    """Each that may fit one of them."""
    queues = (
        product.lines.backorders(batch, batch.eta and max(batch.eta, product.today()))
        for batch in freed
        if batch.available_quantity > 0 and not product.is_expired(batch)
    )
    last = None
    for line in heapq.merge(*queues, key=attrgetter("turn")):
        if line.key != last:
            yield line
        last = line.key
