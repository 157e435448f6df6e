"""The rules of goods that are here and not for sale."""

from __future__ import annotations

from allocation.domain import documents
from allocation.domain.batches import Batch
from allocation.domain.breaking import break_newest
from allocation.domain.commands import Quarantine, ReleaseQuarantine, WriteOff
from allocation.domain.documents import DocumentKey
from allocation.domain.errors import BatchIsExpired, DocumentConflict, NotArrived, NotEnough
from allocation.domain.events import Quarantined, QuarantineReleased, WrittenOff
from allocation.domain.product import Product
from allocation.domain.receiving import batch_of


def quarantine(product: Product, cmd: Quarantine) -> int:
    """Take goods of a batch from sale, and break promises until the others fit. Returns the version at which
    it is recorded. Raises UnknownBatch, DocumentConflict, NotArrived, NotEnough."""
    batch = batch_of(product, cmd.ref)
    event = Quarantined(cmd.ref, product.sku, cmd.qty, cmd.reason, cmd.document)
    if known := _known(product, documents.quarantine(cmd), event):
        return known
    if not batch.is_received:
        raise NotArrived(batch)
    if cmd.qty > batch.on_shelf:
        raise NotEnough.on_shelf(batch, cmd.qty)
    first = product.version_number + 1
    product.record(event)
    break_newest(product, batch)
    return first


def release_quarantine(product: Product, cmd: ReleaseQuarantine) -> int:
    """Sell goods again. Returns the version at which it is recorded. Raises UnknownBatch, DocumentConflict, NotEnough,
    BatchIsExpired."""
    batch = batch_of(product, cmd.ref)
    event = QuarantineReleased(cmd.ref, product.sku, cmd.qty, cmd.document)
    if known := _known(product, documents.quarantine_release(cmd), event):
        return known
    _require_quarantined(batch, cmd.qty)
    if product.is_expired(batch):
        raise BatchIsExpired(batch)
    product.record(event)
    return product.version_number


def write_off(product: Product, cmd: WriteOff) -> int:
    """Give up goods that are in quarantine. Returns the version at which it is recorded. Raises UnknownBatch,
    DocumentConflict, NotEnough."""
    batch = batch_of(product, cmd.ref)
    event = WrittenOff(cmd.ref, product.sku, cmd.qty, cmd.reason, cmd.document)
    if known := _known(product, documents.write_off(cmd), event):
        return known
    _require_quarantined(batch, cmd.qty)
    product.record(event)
    return product.version_number


def _known(product: Product, key: DocumentKey, event: Quarantined | QuarantineReleased | WrittenOff) -> int | None:
    """The version at which this very event was recorded before. Raises DocumentConflict."""
    for entry in product.documents.get(key):
        if entry.event != event:
            recorded = entry.event
            assert isinstance(recorded, Quarantined | QuarantineReleased | WrittenOff), "a document is recorded as such"
            what = (
                f"{recorded.qty}" if isinstance(recorded, QuarantineReleased) else f"{recorded.qty}, {recorded.reason}"
            )
            raise DocumentConflict(f"{key[2].replace('_', ' ').capitalize()} {key[3]} of batch {key[0]}", what)
        return entry.version
    return None


def _require_quarantined(batch: Batch, qty: int) -> None:
    if qty > batch.quarantined_quantity:
        there = batch.quarantined_quantity
        raise NotEnough(f"{qty} of batch {batch.reference}: {there} are in quarantine", there)
