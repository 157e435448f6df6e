"""Messages about days that have passed, and about promises that move to goods that come sooner."""

from __future__ import annotations

from datetime import date

from allocation.domain import commands, errors, events
from allocation.service_layer.messages.stock import IN_ALL, REFERENCE, SKU
from allocation.service_layer.messages.table import CommandRow, Day, EventRow, Field, StockChange, Texts, Whole
from allocation.service_layer.ports import Lookups

APPLY_DUE_DATES = CommandRow(
    commands.ApplyDueDates,
    "allocation.apply_due_dates.v1",
    asks="Record what has come due by itself.",
    gives="Gives `allocation.hold_ended.v1` for holds that have run out, `allocation.batch_overdue.v1` and "
    "`allocation.batch_expired.v1` for batches whose day has passed, and what follows from it; once for each.",
    fields={"sku": SKU, "refs": Field(Texts(1_000, 255), "Batches whose day has passed.")},
    example={"sku": "RED-CHAIR", "refs": ["batch-1"]},
    lookups=lambda command: Lookups(skus=[command.sku], batchrefs=command.refs),
    refuses=[],
    accepted=False,
    moves_many_lines=lambda _: True,
)
PULL_FORWARD = CommandRow(
    commands.PullForward,
    "allocation.pull_forward.v1",
    asks="Move promises from batches that are preferred less, mostly since they come later, to this one.",
    gives="Gives `allocation.line_released.v1` and `allocation.allocated.v1` for each promise that moves: those that "
    "would be broken last come first, each as a whole that fits. When none does, nothing.",
    fields={
        "sku": SKU,
        "ref": REFERENCE,
        "most": Field(Whole(1, 100), "How many promises are moved at most."),
    },
    example={"sku": "RED-CHAIR", "ref": "batch-1", "most": 100},
    lookups=lambda command: Lookups(skus=[command.sku], batchrefs=[command.ref]),
    refuses=[errors.UnknownBatch],
    moves_many_lines=lambda _: True,
)

BATCH_OVERDUE = EventRow(
    events.BatchOverdue,
    "batch_overdue.v1",
    when="The day on which a batch was expected has passed, and it has not arrived. It is still expected, and keeps "
    "what it has promised. Once for each day on which it was expected.",
    fields={"ref": REFERENCE, "sku": SKU, "eta": Field(Day(required=True), "The day on which it was expected.")},
    example=events.BatchOverdue("batch-1", "RED-CHAIR", date(2031, 1, 1)),
    label="Overdue",
    tone="setback",
    sentence="batch {ref}{of_sku} should have come on {eta}",
)
BATCH_EXPIRED = EventRow(
    events.BatchExpired,
    "batch_expired.v1",
    when="The last day on which a batch could be sold has passed. What was here of it is in quarantine, and what it "
    "had promised follows as `allocation.deallocated.v1`, and then where each line went. It comes again when goods of "
    "the batch come back or are found after that.",
    fields={"ref": REFERENCE, "sku": SKU, "qty": Field(IN_ALL, "How much went into quarantine.")},
    example=events.BatchExpired("batch-1", "RED-CHAIR", 15),
    label="Expired",
    tone="setback",
    sentence="batch {ref} expired, with {quantity}",
    stock=StockChange("ref", taken=1),
)
