"""Messages about holds: stock that is reserved for nobody's line yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

from allocation.domain import commands, errors, events, values
from allocation.domain.holding import LONGEST
from allocation.service_layer.messages.ordering import BATCHREF, LINEID, ORDERID, QUANTITY, TERMS
from allocation.service_layer.messages.stock import SKU
from allocation.service_layer.messages.table import (
    Choice,
    CommandRow,
    EventRow,
    Field,
    Instant,
    StockChange,
    Text,
    Whole,
)
from allocation.service_layer.ports import Lookups

HOLD_ID = Field(Text(), "The hold; a cart may hold each of its SKUs under one id.")
SECONDS = Whole(1, int(LONGEST.total_seconds()))
UNTIL = Field(Instant(), "The instant at which it is free, by the database's clock.")


def _of_hold(command: commands.PlaceHold | commands.ExtendHold | commands.VoidHold) -> Lookups:
    return Lookups(skus=[command.sku], holds=[(command.sku, command.hold_id)])


PLACE_HOLD = CommandRow(
    commands.PlaceHold,
    "allocation.place_hold.v1",
    asks="Hold stock for a while, for nobody's line yet: for a cart whose payment has begun.",
    gives="Gives `allocation.hold_placed.v1`; for the same hold again nothing. When no batch has room for all of it, "
    "or this id holds another quantity, it is refused. It ends by itself.",
    fields={
        "hold_id": HOLD_ID,
        "sku": SKU,
        "qty": Field(QUANTITY, "How much is held, of one batch."),
        "seconds": Field(SECONDS, "For how long, from now."),
    },
    example={"hold_id": "cart-9", "sku": "RED-CHAIR", "qty": 2, "seconds": 600},
    lookups=_of_hold,
    refuses=[errors.InvalidSku, errors.NoRoom, errors.HoldConflict],
)
CONFIRM_HOLD = CommandRow(
    commands.ConfirmHold,
    "allocation.confirm_hold.v1",
    asks="Promise what is held to an order line.",
    gives="Gives `allocation.hold_ended.v1` and `allocation.allocated.v1`, of the batch in which it was held; what is "
    "held beyond that is free. A line that waits for just that gets it; for one that has it already, nothing. A hold "
    "that has ended is refused: place the line as any other.",
    fields={
        "hold_id": HOLD_ID,
        "sku": SKU,
        "qty": Field(QUANTITY, "How much of it the line is promised."),
        "orderid": ORDERID,
        "lineid": LINEID,
        "priority": TERMS["priority"],
        "needed_by": TERMS["needed_by"],
    },
    example={
        "hold_id": "cart-9",
        "sku": "RED-CHAIR",
        "qty": 2,
        "orderid": "order-1",
        "lineid": "line-1",
        "priority": 5,
        "needed_by": "2031-01-15",
    },
    lookups=lambda command: Lookups(
        skus=[command.sku], lines=[(command.orderid, command.lineid)], holds=[(command.sku, command.hold_id)]
    ),
    refuses=[errors.LineConflict, errors.OrderIsCancelled, errors.HoldIsOver, errors.NotEnough],
)
EXTEND_HOLD = CommandRow(
    commands.ExtendHold,
    "allocation.extend_hold.v1",
    asks="Hold it for longer.",
    gives="Gives `allocation.hold_extended.v1`; when it is held for so long anyway, nothing. A hold that has ended is "
    "refused.",
    fields={"hold_id": HOLD_ID, "sku": SKU, "seconds": Field(SECONDS, "For how long, from now.")},
    example={"hold_id": "cart-9", "sku": "RED-CHAIR", "seconds": 600},
    lookups=_of_hold,
    refuses=[errors.HoldIsOver],
)
VOID_HOLD = CommandRow(
    commands.VoidHold,
    "allocation.void_hold.v1",
    asks="Give up what is held.",
    gives="Gives `allocation.hold_ended.v1`; for a hold that has ended, nothing.",
    fields={"hold_id": HOLD_ID, "sku": SKU},
    example={"hold_id": "cart-9", "sku": "RED-CHAIR"},
    lookups=_of_hold,
    refuses=[],
)

HOLD_PLACED = EventRow(
    events.HoldPlaced,
    "hold_placed.v1",
    when="Stock is held for a while, for nobody's line yet. `allocation.hold_ended.v1` follows: it may come later than "
    "the instant at which the hold has run out, and is free.",
    fields={
        "hold_id": HOLD_ID,
        "sku": SKU,
        "qty": Field(QUANTITY, "How much is held."),
        "batchref": BATCHREF,
        "until": UNTIL,
    },
    example=events.HoldPlaced("cart-9", "RED-CHAIR", 2, "batch-1", datetime(2031, 1, 1, 10, 10, tzinfo=UTC)),
    label="Held",
    tone="change",
    sentence="{quantity} in batch {batchref} are held for {hold_id} until {until}",
    stock=StockChange("batchref", taken=1),
)
HOLD_EXTENDED = EventRow(
    events.HoldExtended,
    "hold_extended.v1",
    when="A hold lasts longer.",
    fields={"hold_id": HOLD_ID, "sku": SKU, "until": UNTIL},
    example=events.HoldExtended("cart-9", "RED-CHAIR", datetime(2031, 1, 1, 10, 20, tzinfo=UTC)),
    label="Hold extended",
    tone="change",
    sentence="what {hold_id} holds{of_sku} is held until {until}",
)
_WHY_ENDED = {
    "confirmed": "{hold_id} holds {quantity} in batch {batchref} no longer: an order has it",
    "voided": "{hold_id} gave up the {quantity} that it held in batch {batchref}",
    "expired": "the hold of {hold_id} on {quantity} in batch {batchref} has run out",
    "broken": "{hold_id} lost the {quantity} that it held in batch {batchref}",
}
HOLD_ENDED = EventRow(
    events.HoldEnded,
    "hold_ended.v1",
    when="An order took a hold over (what it was promised follows as `allocation.allocated.v1`), or it was given up, "
    "has run out, or lost its stock since its batch fell short: holds are broken before promises.",
    fields={
        "hold_id": HOLD_ID,
        "sku": SKU,
        "qty": Field(QUANTITY, "How much was held."),
        "batchref": BATCHREF,
        "why": Field(Choice(get_args(values.WhyHoldEnded)), "How it ended."),
    },
    example=events.HoldEnded("cart-9", "RED-CHAIR", 2, "batch-1", "confirmed"),
    label="Hold ended",
    tone="change",
    sentence=lambda event: _WHY_ENDED[event.why],
    stock=StockChange("batchref", taken=-1),
)
