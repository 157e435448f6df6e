"""Messages about purchased stock: batches that come and change."""

from __future__ import annotations

from datetime import date

from allocation.domain import commands, errors, events
from allocation.service_layer.messages.table import CommandRow, Day, EventRow, Field, StockChange, Text, Whole
from allocation.service_layer.ports import Lookups

REFERENCE = Field(Text(), "The reference of the batch.")
SKU = Field(Text(), "The stock keeping unit: what is purchased and sold.")
ETA = Field(Day(), "The day on which the batch is expected; null when it is in the warehouse.")
QUANTITY = Whole(0, 1_000_000_000)

CREATE_BATCH = CommandRow(
    commands.CreateBatch,
    "allocation.create_batch.v1",
    asks="Add purchased stock.",
    gives="Gives `allocation.batch_created.v1`; for the identical batch again nothing. The same `ref` with another "
    "SKU, quantity or date is refused.",
    fields={"ref": REFERENCE, "sku": SKU, "qty": Field(QUANTITY, "How much was purchased."), "eta": ETA},
    example={"ref": "batch-1", "sku": "RED-CHAIR", "qty": 20, "eta": "2031-01-01"},
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
    lookups=lambda command: Lookups(batchrefs=[command.ref]),
    refuses=[errors.UnknownBatch, errors.StaleBatch],
    moves_many_lines=True,
    fingerprint_name="ChangeBatchQuantity",
)

BATCH_CREATED = EventRow(
    events.BatchCreated,
    "batch_created.v1",
    when="A batch was added. The identical batch again is no event.",
    fields={"ref": REFERENCE, "sku": SKU, "qty": Field(QUANTITY, "How much was purchased."), "eta": ETA},
    example=events.BatchCreated("batch-1", "RED-CHAIR", 20, date(2031, 1, 1)),
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
