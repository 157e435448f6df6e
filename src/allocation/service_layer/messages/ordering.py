"""Messages about order lines, and what they are allocated to."""

from __future__ import annotations

from typing import get_args

from allocation.domain import commands, errors, events
from allocation.domain.lines import OrderLine
from allocation.service_layer.messages.stock import DOCUMENT, SKU
from allocation.service_layer.messages.table import (
    Choice,
    CommandRow,
    EventRow,
    Field,
    Record,
    Several,
    StockChange,
    Text,
    Texts,
    Whole,
)
from allocation.service_layer.ports import Lookups

BATCHREF = Field(Text(), "The reference of the batch.")


ORDERID = Field(Text(), "The customer's order.")
LINEID = Field(Text(), "The line of the order; its SKU, if it was given none.")
QUANTITY = Whole(1, 1_000_000)
CONDITION = Choice(get_args(events.Condition))


def _line(quantity: str) -> dict[str, Field]:
    return {
        "orderid": ORDERID,
        "sku": SKU,
        "qty": Field(QUANTITY, quantity),
        "lineid": Field(
            Text(), "The line of the order; when it is not given, its SKU. Order and line together name a line."
        ),
    }


ALLOCATE = CommandRow(
    commands.Allocate,
    "allocation.allocate.v1",
    asks="Promise stock to one order line.",
    gives="Gives `allocation.allocated.v1` or `allocation.out_of_stock.v1`; for a line that is allocated, just so, "
    "nothing. A SKU that was never purchased, or the same line with another SKU or quantity, is refused, and so is "
    "any line of a cancelled order.",
    fields=_line("How much is asked for. A line is never split."),
    example={"orderid": "order-1", "sku": "RED-CHAIR", "qty": 12, "lineid": "line-1"},
    lookups=lambda command: Lookups(skus=[command.sku], lines=[OrderLine.of(command).key]),
    refuses=[errors.InvalidSku, errors.LineConflict, errors.OrderIsCancelled],
    fingerprint_name="Allocate",
)

RELEASE_LINE = CommandRow(
    commands.ReleaseLine,
    "allocation.release_line.v1",
    asks="Give back what is promised to an order line.",
    gives="Gives `allocation.line_released.v1` for each batch that something is promised from; when nothing is, "
    "nothing. What has left stays so. A line that nothing was ever promised to is refused.",
    fields={"orderid": ORDERID, "lineid": LINEID},
    example={"orderid": "order-1", "lineid": "line-1"},
    lookups=lambda command: Lookups(lines=[(command.orderid, command.lineid)]),
    refuses=[errors.UnknownLine],
)
CANCEL_ORDER = CommandRow(
    commands.CancelOrder,
    "allocation.cancel_order.v1",
    asks="Give back all that is promised to an order, and promise it nothing more.",
    gives="Gives `allocation.order_cancelled.v1` for each SKU that the order has a line of, and "
    "`allocation.line_released.v1` for all that is promised to it; for a cancelled order nothing. What has left stays "
    "so. An order that all of has left is refused.",
    fields={"orderid": ORDERID},
    example={"orderid": "order-1"},
    lookups=lambda command: Lookups(orders=[command.orderid]),
    refuses=[errors.UnknownOrder, errors.OrderIsComplete],
    moves_many_lines=lambda _: True,
)
DISPATCH = CommandRow(
    commands.Dispatch,
    "allocation.dispatch.v1",
    asks="State that a parcel with goods of an order has left the warehouse.",
    gives="Gives `allocation.dispatched.v1` for each line, and batch that it came from. If that is not the batch that "
    "the line was promised from, its promise moves there first, and the newest other promises of that batch are broken "
    "until the rest fits. The same parcel again gives nothing. What is not promised, or not here, is refused.",
    fields={
        "orderid": ORDERID,
        "dispatch_id": Field(DOCUMENT, "The number of the parcel: said twice for a line, it counts once."),
        "lines": Field(
            Several(
                Record(
                    commands.ParcelLine,
                    {
                        "lineid": LINEID,
                        "qty": Field(QUANTITY, "How much of the line is in the parcel."),
                        "batchref": Field(
                            Text(),
                            "The batch it was picked from; null for those that are promised, the preferred first.",
                        ),
                    },
                ),
                most=200,
                by="lineid",
            ),
            "What is in the parcel: each line once.",
        ),
    },
    example={
        "orderid": "order-1",
        "dispatch_id": "parcel-1",
        "lines": [{"lineid": "line-1", "qty": 5, "batchref": None}],
    },
    lookups=lambda command: Lookups(
        lines=[(command.orderid, line.lineid) for line in command.lines],
        batchrefs=[line.batchref for line in command.lines if line.batchref],
        documents=[(command.orderid, line.lineid, "dispatch", command.dispatch_id) for line in command.lines],
    ),
    refuses=[
        errors.UnknownLine,
        errors.UnknownBatch,
        errors.NotArrived,
        errors.NotEnough,
        errors.DocumentConflict,
    ],
    moves_many_lines=lambda command: any(line.batchref for line in command.lines),
)
RETURN_LINE = CommandRow(
    commands.ReturnLine,
    "allocation.return_line.v1",
    asks="Take goods of an order line back that had left.",
    gives="Gives `allocation.returned.v1`, and `allocation.quarantined.v1` for what is to be checked. The goods are in "
    "their batch again; the line asks for no others. The same return again gives nothing.",
    fields={
        "orderid": ORDERID,
        "lineid": LINEID,
        "qty": Field(QUANTITY, "How much came back."),
        "return_id": Field(DOCUMENT, "The number of the return: said twice for a line, it counts once."),
        "condition": Field(CONDITION, "For sale at once, or into quarantine to be looked at."),
        "batchref": Field(Text(), "The batch it belongs to; null for the one that left last."),
    },
    example={
        "orderid": "order-1",
        "lineid": "line-1",
        "qty": 2,
        "return_id": "return-1",
        "condition": "good",
        "batchref": None,
    },
    lookups=lambda command: Lookups(
        lines=[(command.orderid, command.lineid)],
        batchrefs=[command.batchref] if command.batchref else [],
        documents=[(command.orderid, command.lineid, "return", command.return_id)],
    ),
    refuses=[errors.UnknownLine, errors.UnknownBatch, errors.NotEnough, errors.DocumentConflict],
)

ALLOCATED = EventRow(
    events.Allocated,
    "allocated.v1",
    when="A line was asked for and a batch had room, or its promise was broken and another batch has room.",
    fields=_line("How much was promised: all of the line, but for what left from another batch.")
    | {"batchref": BATCHREF},
    example=events.Allocated("order-1", "RED-CHAIR", 12, "batch-1", "line-1"),
    label="Allocated",
    tone="success",
    sentence="{line} was promised {quantity} from batch {batchref}",
    stock=StockChange("batchref", taken=1),
)
DEALLOCATED = EventRow(
    events.Deallocated,
    "deallocated.v1",
    when="A batch shrank below what it had promised: its newest promises are broken, no more than must be. For each "
    "such line an `allocation.allocated.v1` or `allocation.out_of_stock.v1` of the same SKU follows, with this event "
    "as its cause. Both were committed together.",
    fields=_line("How much is no longer promised.") | {"batchref": BATCHREF},
    example=events.Deallocated("order-1", "RED-CHAIR", 12, "batch-1", "line-1"),
    label="Promise broken",
    tone="setback",
    sentence="{line} lost its {quantity} from batch {batchref}",
    stock=StockChange("batchref", taken=-1),
)
OUT_OF_STOCK = EventRow(
    events.OutOfStock,
    "out_of_stock.v1",
    when="A line was asked for, or lost its batch, and no batch had room for all of it. It is not tried again by "
    "itself. The stock team is mailed, about those of an import together at its end.",
    fields=_line("How much was asked for."),
    example=events.OutOfStock("order-1", "RED-CHAIR", 12, "line-1"),
    label="Out of stock",
    tone="failure",
    sentence="{line} asked for {quantity}: out of stock",
)
_WHY_RELEASED = {"released": "", "cancelled": ": it was cancelled", "moved": ": it was picked from another batch"}
LINE_RELEASED = EventRow(
    events.LineReleased,
    "line_released.v1",
    when="A promise was given back, since somebody asked for that or cancelled the order, or since the goods that left "
    "were picked from another batch.",
    fields=_line("How much is no longer promised.")
    | {"batchref": BATCHREF, "why": Field(Choice(["released", "cancelled", "moved"]), "What it was given back for.")},
    example=events.LineReleased("order-1", "RED-CHAIR", 12, "batch-1", "line-1", "released"),
    label="Promise given back",
    tone="change",
    sentence=lambda event: "{line} gave back {quantity} to batch {batchref}" + _WHY_RELEASED[event.why],
    stock=StockChange("batchref", taken=-1),
)
ORDER_CANCELLED = EventRow(
    events.OrderCancelled,
    "order_cancelled.v1",
    when="An order was cancelled: nothing more is promised to it. It is recorded for each SKU that the order has a "
    "line of; what is given back by that follows as `allocation.line_released.v1`.",
    fields={"orderid": ORDERID, "sku": SKU},
    example=events.OrderCancelled("order-1", "RED-CHAIR"),
    label="Order cancelled",
    tone="change",
    sentence="order {orderid} was cancelled, with its lines{of_sku}",
)
DISPATCHED = EventRow(
    events.Dispatched,
    "dispatched.v1",
    when="Goods of a line have left the warehouse.",
    fields=_line("How much has left.")
    | {"batchref": BATCHREF, "dispatch_id": Field(DOCUMENT, "The number of the parcel.")},
    example=events.Dispatched("order-1", "RED-CHAIR", 5, "batch-1", "line-1", "parcel-1"),
    label="Dispatched",
    tone="success",
    sentence="{line} was sent {quantity} from batch {batchref}, in parcel {dispatch_id}",
)
RETURNED = EventRow(
    events.Returned,
    "returned.v1",
    when="Goods of a line that had left are back in their batch. Those to be checked go into quarantine: "
    "`allocation.quarantined.v1` follows.",
    fields=_line("How much came back.")
    | {
        "batchref": BATCHREF,
        "return_id": Field(DOCUMENT, "The number of the return."),
        "condition": Field(CONDITION, "For sale at once, or to be looked at first."),
    },
    example=events.Returned("order-1", "RED-CHAIR", 2, "batch-1", "line-1", "return-1", "good"),
    label="Returned",
    tone="stock",
    sentence=lambda event: (
        "{line} sent {quantity} back to batch {batchref}" + (", to be checked" if event.condition == "check" else "")
    ),
    stock=StockChange("batchref", taken=-1),
)

_SHORTAGES = {
    "sku": Field(Text(), "The stock keeping unit of the first of these lines."),
    "lines": Field(Whole(1, 2**53 - 1), "How many lines of the import are out of stock."),
    "listed": Field(Texts(100, 1000), "The first of them, for people to read."),
}
REPORT_SHORTAGES = CommandRow(
    commands.ReportShortages,
    "allocation.report_shortages.v1",
    asks="Mail the stock team what an import found out of stock.",
    gives="Gives `allocation.shortages_reported.v1`.",
    fields=_SHORTAGES,
    example={"sku": "RED-CHAIR", "lines": 1, "listed": ["RED-CHAIR: order order-1, line line-1, asked for 12"]},
    lookups=lambda command: Lookups(skus=[command.sku]),
    refuses=[],
    accepted=False,
)
SHORTAGES_REPORTED = EventRow(
    events.ShortagesReported,
    "shortages_reported.v1",
    when="An import has ended, and some of its lines are out of stock: each has an `allocation.out_of_stock.v1` of its "
    "own. The stock team is mailed about all of them together, once a day for the same lines.",
    fields=_SHORTAGES,
    example=events.ShortagesReported("RED-CHAIR", 1, ("RED-CHAIR: order order-1, line line-1, asked for 12",)),
    label="Shortages reported",
    tone="failure",
    sentence="{lines} lines of an import, of {sku} among others, are out of stock",
)
