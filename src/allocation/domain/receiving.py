"""The rules of purchased stock: how batches come, arrive and change."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from allocation.domain import documents
from allocation.domain.batches import MOST_PIECES, Batch
from allocation.domain.breaking import break_newest
from allocation.domain.commands import CountBatch, ReceiveBatch
from allocation.domain.due_dates import expire, is_newly_expired
from allocation.domain.errors import (
    AlreadyArrived,
    BatchConflict,
    BelowDispatched,
    DocumentConflict,
    ImpossibleReceipt,
    NotArrived,
    StaleBatch,
    StaleQuantity,
    UnknownBatch,
)
from allocation.domain.events import (
    BatchCounted,
    BatchCreated,
    BatchQuantityChanged,
    BatchReceived,
    EtaChanged,
    Quarantined,
)
from allocation.domain.product import Product
from allocation.domain.values import Revision


def add_batch(
    product: Product,
    reference: str,
    qty: int,
    eta: date | None = None,
    expires: date | None = None,
    *,
    location: str = "",
) -> None:
    """Add purchased stock. The identical batch again changes nothing. Raises BatchConflict."""
    if batch := product.batches.get(reference):
        created = batch.sku, batch.initial_quantity, batch.initial_eta, batch.initial_expires, batch.location
        given = {"sku": product.sku, "qty": qty, "eta": eta, "expires": expires, "location": location}
        differ = {name: value for (name, value), was in zip(given.items(), created, strict=True) if value != was}
        if differ:
            raise BatchConflict(batch, **differ)
        return
    product.record(BatchCreated(reference, product.sku, qty, eta, expires, location))


def change_batch_quantity(
    product: Product, reference: str, qty: int, seen: Collection[Revision] | None = None
) -> int | None:
    """State what the batch holds, and break promises until the rest fits.

    With `seen`, only if the batch is at one of these revisions. Returns the version at which it is recorded, None when
    nothing changes. Raises UnknownBatch, StaleBatch, BelowDispatched.
    """
    batch = batch_of(product, reference)
    if not product.is_as_seen(batch, seen):
        raise StaleBatch(batch)
    if batch.purchased_quantity == qty:
        return None
    if qty < batch.dispatched_quantity + batch.quarantined_quantity:
        raise BelowDispatched.of_batch(batch)
    first = product.version_number + 1
    product.record(BatchQuantityChanged(reference, product.sku, qty))
    break_newest(product, batch)
    return first


def change_eta(product: Product, reference: str, eta: date, seen: Collection[Revision] | None = None) -> None:
    """State when the batch is expected. What it has promised stays so. Raises UnknownBatch, StaleBatch,
    AlreadyArrived."""
    batch = batch_of(product, reference)
    if not product.is_as_seen(batch, seen):
        raise StaleBatch(batch)
    if batch.is_received:
        raise AlreadyArrived(batch)
    if batch.eta != eta:
        product.record(EtaChanged(reference, product.sku, eta))


def receive_batch(product: Product, cmd: ReceiveBatch) -> int:
    """Take in what has arrived, and return the version at which that is recorded. What is damaged goes into
    quarantine, what is missing is expected as the rest, and promises are broken until the others fit. Of what has
    expired already nothing is for sale.

    Raises UnknownBatch, DocumentConflict, BatchConflict, ImpossibleReceipt.
    """
    batch = batch_of(product, cmd.ref)
    rest = cmd.rest.ref if cmd.rest else None
    for entry in product.documents.get(documents.receipt(cmd)):
        event = entry.event
        assert isinstance(event, BatchReceived), "a receipt is recorded as such"
        same_expiry = cmd.expires is None or cmd.expires == event.expires
        same_numbers = (event.received, event.damaged, event.rest) == (cmd.received, cmd.damaged, rest)
        same = same_numbers and same_expiry
        if same and cmd.rest:
            same = product.batches[cmd.rest.ref].initial_eta == cmd.rest.eta
        if not same:
            what = f"{event.received} received, {event.damaged} damaged, rest {event.rest or 'none'}"
            what += f" on {product.batches[event.rest].initial_eta}" if event.rest else ""
            what += f", expires {event.expires or 'never'}" if cmd.expires else ""
            raise DocumentConflict(f"Receipt {cmd.receipt_id} of batch {cmd.ref}", what)
        return entry.version
    missing = 0 if batch.is_received else batch.purchased_quantity - cmd.received
    qty = cmd.received + (batch.purchased_quantity if batch.is_received else 0)
    _require_possible(product, cmd, batch, missing, qty)
    first = product.version_number + 1
    if cmd.rest:
        product.record(BatchCreated(cmd.rest.ref, product.sku, missing, cmd.rest.eta, location=batch.location))
    expires = cmd.expires or batch.expires
    product.record(BatchReceived(cmd.ref, product.sku, cmd.receipt_id, cmd.received, cmd.damaged, qty, expires, rest))
    if cmd.damaged:
        product.record(Quarantined(cmd.ref, product.sku, cmd.damaged, "damaged", cmd.receipt_id, "receipt"))
    if is_newly_expired(product, batch):
        expire(product, batch)
    else:
        break_newest(product, batch)
    return first


def _require_possible(product: Product, cmd: ReceiveBatch, batch: Batch, missing: int, qty: int) -> None:
    if cmd.damaged > cmd.received:
        raise ImpossibleReceipt(f"damaged: {cmd.damaged} of {cmd.received} that were received")
    if qty > MOST_PIECES:
        raise ImpossibleReceipt(
            f"received: batch {batch.reference} would be of {qty:,}, and {MOST_PIECES:,} is the most"
        )
    if batch.is_received and cmd.expires and cmd.expires != batch.expires:
        raise BatchConflict(batch, expires=cmd.expires)
    if cmd.rest:
        if missing <= 0:
            raise ImpossibleReceipt(f"rest: nothing of batch {batch.reference} is left to come")
        if there := product.batches.get(cmd.rest.ref):
            raise BatchConflict(there, rest=cmd.rest.ref)


def count_batch(product: Product, cmd: CountBatch) -> int:
    """Believe whoever counted what is on the shelf, whatever is promised, and return the version at which that is
    recorded. Raises UnknownBatch, DocumentConflict, NotArrived, StaleQuantity."""
    batch = batch_of(product, cmd.ref)
    for entry in product.documents.get(documents.count(cmd)):
        event = entry.event
        assert isinstance(event, BatchCounted), "a count is recorded as such"
        if (event.counted, event.reason) != (cmd.counted, cmd.reason):
            what = f"{event.counted} counted, {event.reason}"
            raise DocumentConflict(f"Count {cmd.count_id} of batch {cmd.ref}", what)
        return entry.version
    if not batch.is_received:
        raise NotArrived(batch)
    if batch.on_shelf != cmd.expected:
        raise StaleQuantity.of_batch(batch, cmd.expected)
    first = product.version_number + 1
    qty = cmd.counted + batch.dispatched_quantity + batch.quarantined_quantity
    product.record(BatchCounted(cmd.ref, product.sku, cmd.count_id, cmd.counted, qty, cmd.reason))
    break_newest(product, batch)
    return first


def batch_of(product: Product, reference: str) -> Batch:
    """Raises UnknownBatch."""
    batch = product.batches.get(reference)
    if batch is None:
        raise UnknownBatch(reference)
    if batch.sku != product.sku:
        raise UnknownBatch(reference, product.sku, batch.sku)
    return batch
