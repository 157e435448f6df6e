"""Messages about purchased stock: batches that come and change."""

from __future__ import annotations

from datetime import date
from typing import Any, get_args

from allocation.domain import commands, errors, events, values
from allocation.domain.batches import MOST_PIECES
from allocation.domain.documents import count, receipt
from allocation.service_layer.messages.table import (
    Choice,
    CommandRow,
    Day,
    EventRow,
    Field,
    Record,
    StockChange,
    Text,
    Whole,
)
from allocation.service_layer.ports import Lookups

REFERENCE = Field(Text(), "The reference of the batch.")
SKU = Field(Text(), "The stock keeping unit: what is purchased and sold.")
ETA = Field(Day(), "The day on which the batch is expected; null when it is in the warehouse.")
QUANTITY = Whole(0, MOST_PIECES)
SOME = Whole(1, MOST_PIECES)
IN_ALL = Whole(0, 1_000 * MOST_PIECES)
"""Of one batch: counts can find more than may be purchased at once."""
LOCATION = Field(Text(64), "Where it lies; when it is not given, at the location that has no name.")
EXPIRES = Field(Day(), "The last day on which it can be sold; null when it keeps.")
DOCUMENT = Text(64)
REASON = Field(Choice(get_args(values.Reason)), "Why.")


def of_batch(command: Any) -> Lookups:
    """What is needed for a command that is about the batch `ref`."""
    return Lookups(batchrefs=[command.ref])


CREATE_BATCH = CommandRow(
    commands.CreateBatch,
    "allocation.create_batch.v1",
    asks="Add purchased stock.",
    gives="Gives `allocation.batch_created.v1`; for the identical batch again nothing. The same `ref` with another "
    "SKU, quantity, date or location is refused. Those who wait for the SKU are served from it.",
    fields={
        "ref": REFERENCE,
        "sku": SKU,
        "qty": Field(QUANTITY, "How much was purchased."),
        "eta": ETA,
        "expires": EXPIRES,
        "location": LOCATION,
    },
    example={
        "ref": "batch-1",
        "sku": "RED-CHAIR",
        "qty": 20,
        "eta": "2031-01-01",
        "expires": None,
        "location": "hamburg",
    },
    lookups=lambda command: Lookups(skus=[command.sku], batchrefs=[command.ref]),
    refuses=[errors.BatchConflict],
    fingerprint_name="CreateBatch",
)
CHANGE_BATCH_QUANTITY = CommandRow(
    commands.ChangeBatchQuantity,
    "allocation.change_batch_quantity.v1",
    asks="State how much a batch really holds.",
    gives="Gives `allocation.batch_quantity_changed.v1` and what follows from it; for the quantity it has, nothing. An "
    "unknown batch is refused.",
    fields={
        "ref": Field(Text(), "The reference of the batch.", wire="batchref"),
        "qty": Field(QUANTITY, "How much the batch really holds."),
    },
    internal=["seen"],  # over HTTP it comes in a header
    example={"batchref": "batch-1", "qty": 10},
    lookups=of_batch,
    refuses=[errors.UnknownBatch, errors.StaleBatch, errors.BelowDispatched],
    moves_many_lines=lambda _: True,
    fingerprint_name="ChangeBatchQuantity",
)
CHANGE_ETA = CommandRow(
    commands.ChangeEta,
    "allocation.change_eta.v1",
    asks="State on which day a batch is expected now.",
    gives="Gives `allocation.eta_changed.v1`; for the day it has, nothing. What the batch has promised stays so. A "
    "batch that is in the warehouse is refused: it has arrived.",
    fields={"ref": REFERENCE, "eta": Field(Day(required=True), "The day on which the batch is expected.")},
    internal=["seen"],
    example={"ref": "batch-1", "eta": "2031-02-01"},
    lookups=of_batch,
    refuses=[errors.UnknownBatch, errors.StaleBatch, errors.AlreadyArrived],
)
RECEIVE_BATCH = CommandRow(
    commands.ReceiveBatch,
    "allocation.receive_batch.v1",
    asks="Take a batch into the warehouse, with what is short, over or damaged; or more of one that is there.",
    gives="Gives `allocation.batch_received.v1`, before it `allocation.batch_created.v1` for the rest, and after it "
    "`allocation.quarantined.v1` for what is damaged and what follows from a batch that falls short. The same receipt "
    "again gives nothing; with other contents it is refused.",
    fields={
        "ref": REFERENCE,
        "receipt_id": Field(DOCUMENT, "The number of the receipt: sent twice for a batch, it counts once."),
        "received": Field(QUANTITY, "How much arrived, what is damaged included."),
        "damaged": Field(QUANTITY, "How much of that goes into quarantine."),
        "expires": Field(Day(), "The last day on which it can be sold; null when that is as it was."),
        "rest": Field(
            Record(
                commands.Rest,
                {
                    "ref": Field(Text(), "The reference of the batch that will bring it."),
                    "eta": Field(Day(required=True), "The day on which that is expected."),
                },
            ),
            "What is missing comes as a batch of its own; null when it never comes.",
        ),
    },
    example={
        "ref": "batch-1",
        "receipt_id": "receipt-1",
        "received": 60,
        "damaged": 5,
        "expires": None,
        "rest": {"ref": "batch-2", "eta": "2031-02-01"},
    },
    lookups=lambda command: Lookups(
        batchrefs=[command.ref, *([command.rest.ref] if command.rest else [])],
        documents=[receipt(command)],
    ),
    refuses=[errors.UnknownBatch, errors.BatchConflict, errors.DocumentConflict, errors.ImpossibleReceipt],
    moves_many_lines=lambda _: True,
)
COUNT_BATCH = CommandRow(
    commands.CountBatch,
    "allocation.count_batch.v1",
    asks="State how much of a batch somebody found on the shelf.",
    gives="Gives `allocation.batch_counted.v1` and what follows from it. The same count again gives nothing. It is "
    "refused when by the books there was something else on the shelf than when the count began; never for what is "
    "promised.",
    fields={
        "ref": REFERENCE,
        "counted": Field(QUANTITY, "How much was found, what is in quarantine left out."),
        "expected": Field(QUANTITY, "How much there was by the books when the count began."),
        "count_id": Field(DOCUMENT, "The number of the count: sent twice for a batch, it counts once."),
        "reason": Field(REASON.limit, "Why it differs, if it does."),
    },
    example={"ref": "batch-1", "counted": 10, "expected": 13, "count_id": "count-1", "reason": "lost"},
    lookups=lambda command: Lookups(batchrefs=[command.ref], documents=[count(command)]),
    refuses=[errors.UnknownBatch, errors.NotArrived, errors.StaleQuantity, errors.DocumentConflict],
    moves_many_lines=lambda _: True,
)

BATCH_CREATED = EventRow(
    events.BatchCreated,
    "batch_created.v1",
    when="A batch was added. The identical batch again is no event.",
    fields={
        "ref": REFERENCE,
        "sku": SKU,
        "qty": Field(QUANTITY, "How much was purchased."),
        "eta": ETA,
        "expires": EXPIRES,
        "location": LOCATION,
    },
    example=events.BatchCreated("batch-1", "RED-CHAIR", 20, date(2031, 1, 1), date(2032, 1, 1), "hamburg"),
    label="Purchased",
    tone="stock",
    sentence=lambda event: (
        "batch {ref} will bring {quantity} on {eta}"
        if event.eta
        else "batch {ref} brought {quantity}, in the warehouse"
    ),
    stock=StockChange("ref", purchased="adds"),
)
BATCH_QUANTITY_CHANGED = EventRow(
    events.BatchQuantityChanged,
    "batch_quantity_changed.v1",
    when="The quantity of a batch was set to another one. What it had promised beyond that follows as "
    "`allocation.deallocated.v1`, and then where each line went.",
    fields={"ref": REFERENCE, "sku": SKU, "qty": Field(QUANTITY, "How much the batch holds now, promised or not.")},
    example=events.BatchQuantityChanged("batch-1", "RED-CHAIR", 10),
    label="Quantity changed",
    tone="change",
    sentence="batch {ref} holds {quantity} now",
    stock=StockChange("ref", purchased="sets"),
)
BATCH_RECEIVED = EventRow(
    events.BatchReceived,
    "batch_received.v1",
    when="A batch has arrived, or more of one that is in the warehouse. What it can't keep of its promises by that "
    "follows as `allocation.deallocated.v1`, and then where each line went.",
    fields={
        "ref": REFERENCE,
        "sku": SKU,
        "receipt_id": Field(DOCUMENT, "The number of the receipt."),
        "received": Field(QUANTITY, "How much arrived, what is damaged included."),
        "damaged": Field(QUANTITY, "How much of that goes into quarantine: `allocation.quarantined.v1` follows."),
        "qty": Field(IN_ALL, "How much the batch brought in all."),
        "expires": EXPIRES,
        "rest": Field(Text(required=False), "The batch that brings what is missing; null when there is none."),
    },
    example=events.BatchReceived("batch-1", "RED-CHAIR", "receipt-1", 60, 5, 60, None, "batch-2"),
    label="Received",
    tone="stock",
    sentence=lambda event: (
        "batch {ref} arrived with {received}{of_sku}"
        + (", {damaged} of them damaged" if event.damaged else "")
        + (", and batch {rest} brings the rest" if event.rest else "")
    ),
    stock=StockChange("ref", purchased="sets", arrives=True),
)
BATCH_COUNTED = EventRow(
    events.BatchCounted,
    "batch_counted.v1",
    when="Somebody counted what is on the shelf, and that is believed, also where nothing differs.",
    fields={
        "ref": REFERENCE,
        "sku": SKU,
        "count_id": Field(DOCUMENT, "The number of the count."),
        "counted": Field(QUANTITY, "How much was found, what is in quarantine left out."),
        "qty": Field(IN_ALL, "How much the batch brought in all, by that."),
        "reason": REASON,
    },
    example=events.BatchCounted("batch-1", "RED-CHAIR", "count-1", 10, 17, "lost"),
    label="Counted",
    tone="change",
    sentence="a count of batch {ref} found {counted}{of_sku} on the shelf ({reason})",
    stock=StockChange("ref", purchased="sets"),
)
ETA_CHANGED = EventRow(
    events.EtaChanged,
    "eta_changed.v1",
    when="A batch is expected on another day. What it has promised stays so.",
    fields={"ref": REFERENCE, "sku": SKU, "eta": Field(Day(required=True), "The day on which it is expected now.")},
    example=events.EtaChanged("batch-1", "RED-CHAIR", date(2031, 2, 1)),
    label="ETA changed",
    tone="change",
    sentence="batch {ref}{of_sku} is expected on {eta} now",
)
