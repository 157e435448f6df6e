"""The rule of the queue: no line waits that fits anywhere, so that who comes anew takes nothing from those who wait."""

from __future__ import annotations

from operator import attrgetter

from allocation.domain.allocating import objection_to, record_allocated
from allocation.domain.batches import Batch
from allocation.domain.product import Product


def fill(product: Product) -> None:
    """Serve those who wait from the batches that have got room since, once all broken promises are placed again."""
    if not product.roomier or product.lines.has_broken(product.sku):
        return
    roomier = [product.batches[reference] for reference in product.roomier]
    product.roomier.clear()
    if product.waiting:
        for batch in sorted(roomier, key=attrgetter("preference")):
            _serve(product, batch)


def _serve(product: Product, batch: Batch) -> None:
    """In their turn, each that fits; who does not fit waits on."""
    if batch.available_quantity <= 0 or product.is_expired(batch):
        return
    day = batch.eta and max(batch.eta, product.today())
    for line in product.lines.backorders(batch, day):
        room = batch.available_quantity
        if not room:
            return
        qty = min(line.waiting, room) if line.terms.may_split else line.waiting
        if qty <= room and objection_to(product, batch, line.terms) is None:
            record_allocated(product, line, line.terms, batch, qty, waited=True)
