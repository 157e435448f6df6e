"""Messages about goods that are here and not for sale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allocation.domain import commands, documents, errors, events
from allocation.domain.documents import DocumentKey
from allocation.service_layer.messages.stock import DOCUMENT, REASON, REFERENCE, SKU, SOME
from allocation.service_layer.messages.table import Choice, CommandRow, EventRow, Field, Fields, StockChange
from allocation.service_layer.ports import Lookups

_NUMBER = "The number of the document: sent twice for a batch, it counts once."


def _of(quantity: str, document: str = _NUMBER) -> Fields:
    return {"ref": REFERENCE, "qty": Field(SOME, quantity), "document": Field(DOCUMENT, document)}


def _lookups(document: Callable[[Any], DocumentKey]) -> Callable[[Any], Lookups]:
    return lambda command: Lookups(batchrefs=[command.ref], documents=[document(command)])


QUARANTINE = CommandRow(
    commands.Quarantine,
    "allocation.quarantine.v1",
    asks="Take goods of a batch from sale: damaged, or suspected to be.",
    gives="Gives `allocation.quarantined.v1` and what follows from a batch that falls short. The same document again "
    "gives nothing.",
    fields={**_of("How much goes into quarantine."), "reason": REASON},
    example={"ref": "batch-1", "qty": 4, "reason": "damaged", "document": "quarantine-1"},
    lookups=_lookups(documents.quarantine),
    refuses=[errors.UnknownBatch, errors.NotArrived, errors.NotEnough, errors.DocumentConflict],
    moves_many_lines=lambda _: True,
)
RELEASE_QUARANTINE = CommandRow(
    commands.ReleaseQuarantine,
    "allocation.release_quarantine.v1",
    asks="Sell goods in quarantine again.",
    gives="Gives `allocation.quarantine_released.v1`; for the same document again nothing.",
    fields=_of("How much is for sale again."),
    example={"ref": "batch-1", "qty": 3, "document": "release-1"},
    lookups=_lookups(documents.quarantine_release),
    refuses=[errors.UnknownBatch, errors.NotEnough, errors.BatchIsExpired, errors.DocumentConflict],
)
WRITE_OFF = CommandRow(
    commands.WriteOff,
    "allocation.write_off.v1",
    asks="Give up goods that are in quarantine.",
    gives="Gives `allocation.written_off.v1`; for the same document again nothing.",
    fields={**_of("How much is gone for good."), "reason": REASON},
    example={"ref": "batch-1", "qty": 1, "reason": "damaged", "document": "write-off-1"},
    lookups=_lookups(documents.write_off),
    refuses=[errors.UnknownBatch, errors.NotEnough, errors.DocumentConflict],
)

QUARANTINED = EventRow(
    events.Quarantined,
    "quarantined.v1",
    when="Goods are here and not for sale. What the batch can't keep of its promises by that follows as "
    "`allocation.deallocated.v1`, and then where each line went.",
    fields={
        **_of("How much.", "The document's number, or the receipt's or return's that they came with."),
        "sku": SKU,
        "reason": REASON,
        "came_with": Field(Choice(["receipt", "return"]), "What brought them so; null when they were for sale before."),
    },
    example=events.Quarantined("batch-1", "RED-CHAIR", 5, "damaged", "receipt-1", "receipt"),
    label="Quarantined",
    tone="setback",
    sentence="{quantity} in batch {ref} went into quarantine: {reason}",
    stock=StockChange("ref", taken=1),
)
QUARANTINE_RELEASED = EventRow(
    events.QuarantineReleased,
    "quarantine_released.v1",
    when="Goods that were in quarantine are for sale again.",
    fields={**_of("How much.", "The document's number."), "sku": SKU},
    example=events.QuarantineReleased("batch-1", "RED-CHAIR", 3, "release-1"),
    label="Quarantine released",
    tone="stock",
    sentence="{quantity} in batch {ref} left quarantine, and can be sold again",
    stock=StockChange("ref", taken=-1),
)
WRITTEN_OFF = EventRow(
    events.WrittenOff,
    "written_off.v1",
    when="Goods that were in quarantine are gone for good.",
    fields={**_of("How much.", "The document's number."), "sku": SKU, "reason": REASON},
    example=events.WrittenOff("batch-1", "RED-CHAIR", 1, "damaged", "write-off-1"),
    label="Written off",
    tone="setback",
    sentence="batch {ref} lost {quantity} from quarantine, written off: {reason}",
    stock=StockChange("ref", purchased="loses", taken=-1),
)
