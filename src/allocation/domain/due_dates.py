"""What a day that has passed means for goods: some have expired, and some should have come."""

from __future__ import annotations

from collections.abc import Sequence

from allocation.domain.batches import Batch
from allocation.domain.breaking import break_newest
from allocation.domain.events import BatchExpired, BatchOverdue
from allocation.domain.product import Product


def apply_due_dates(product: Product, references: Sequence[str]) -> None:
    """Record what has come due by now: holds that have run out, and of these batches which have expired or are overdue,
    by their days. Each is recorded once; nothing is due that is recorded already."""
    product.keep_tentative()
    known = [batch for one in dict.fromkeys(references) if (batch := product.batches.get(one))]
    ours = [batch for batch in known if batch.sku == product.sku]
    overdue = [(batch.eta, False, batch) for batch in ours if batch.eta and _is_newly_overdue(product, batch)]
    expired = [(batch.expires, True, batch) for batch in ours if batch.expires and is_newly_expired(product, batch)]
    for day, has_expired, batch in sorted([*overdue, *expired], key=lambda due: (due[0], due[1], due[2].reference)):
        if has_expired:
            expire(product, batch)
        else:
            product.record(BatchOverdue(batch.reference, product.sku, day))


def expire(product: Product, batch: Batch) -> None:
    """What is here of it goes into quarantine, and whatever was promised or held of it is broken."""
    here = batch.on_shelf if batch.is_received else 0
    product.record(BatchExpired(batch.reference, product.sku, here))
    break_newest(product, batch, batch.promised_quantity + batch.held_quantity)


def _is_newly_overdue(product: Product, batch: Batch) -> bool:
    return not batch.overdue and batch.eta is not None and batch.eta < product.today()


def is_newly_expired(product: Product, batch: Batch) -> bool:
    return not batch.expired and product.is_expired(batch)
