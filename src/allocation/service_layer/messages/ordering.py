"""Messages about order lines, and what they are allocated to."""

from __future__ import annotations

from datetime import date
from typing import get_args

from allocation.domain import commands, documents, errors, events, values
from allocation.domain.lines import OrderLine
from allocation.service_layer.messages.stock import DOCUMENT, SKU
from allocation.service_layer.messages.table import (
    Choice,
    CommandRow,
    Day,
    EventRow,
    Field,
    Flag,
    Impossible,
    Names,
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
CONDITION = Choice(get_args(values.Condition))
LOCATIONS = Names(20, 64)
TERMS = {
    "priority": Field(Whole(0, 9), "The higher, the earlier it is served, and the later its promises are broken."),
    "needed_by": Field(Day(), "The last day on which it is any use; null when it can wait."),
    "may_split": Field(Flag(), "Whether a line takes parts of several batches."),
    "locations": Field(LOCATIONS, "Where it may lie, the first preferred; null for anywhere."),
}
TERMS_OF_LINE = TERMS | {
    "locations": Field(Texts(20, 64), "Where it may lie, the first preferred; without any, anywhere.")
}


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

PLACE_ORDER = CommandRow(
    commands.PlaceOrder,
    "allocation.place_order.v1",
    asks="Promise stock to all lines of an order, in one transaction.",
    gives="Gives `allocation.allocated.v1` for what is promised, and `allocation.backordered.v1` for what waits. When "
    "there is not enough for an order that is all or nothing, an `allocation.out_of_stock.v1` for each line that is "
    "short, and nothing else. The same order again gives nothing; with more lines, those are added. A SKU that was "
    "never purchased, a known line with another SKU or quantity, or a cancelled order, is refused with all of it.",
    fields={
        "orderid": ORDERID,
        "lines": Field(
            Several(
                Record(
                    commands.OrderedLine,
                    {
                        "sku": SKU,
                        "qty": Field(QUANTITY, "How much of it."),
                        "lineid": LINEID,
                        "hold": Field(
                            Text(),
                            "A hold of the SKU that the line takes over; null for none. What it does not take "
                            "is free. One that has ended is none.",
                        ),
                    },
                ),
                most=200,
                by="lineid",
                otherwise="give each line a lineid of its own",
            ),
            "The lines of the order.",
        ),
        "mode": Field(
            Choice(get_args(values.Mode)),
            "When there is not enough: nothing is promised; each line gets what there is and waits for the rest; or "
            "each line that does not fit waits as a whole.",
        ),
        **TERMS,
    },
    example={
        "orderid": "order-1",
        "lines": [{"sku": "RED-CHAIR", "qty": 3, "lineid": "line-1"}, {"sku": "TABLE", "qty": 1, "lineid": "line-2"}],
        "mode": "backorder",
        "priority": 5,
        "needed_by": "2031-01-15",
        "may_split": False,
        "locations": ["hamburg", "berlin"],
    },
    lookups=lambda command: Lookups(
        skus=list(dict.fromkeys(line.sku for line in command.lines)),
        orders=[command.orderid],
        holds=[(line.sku, line.hold) for line in command.lines if line.hold],
    ),
    refuses=[errors.InvalidSku, errors.LineConflict, errors.OrderIsCancelled],
    impossible=Impossible(
        {"mode": "backorder", "may_split": True}, "a backorder waits as a whole; for parts of it say mode partial"
    ),
)
CHANGE_LINE = CommandRow(
    commands.ChangeLine,
    "allocation.change_line.v1",
    asks="Have an order line be of another quantity.",
    gives="Gives `allocation.line_released.v1` for what is given up, `allocation.allocated.v1` for what is promised, "
    "and `allocation.backordered.v1` for what waits. A line grows where it is, or moves as a whole, or is split, if it "
    "may be; else it is refused and keeps what it has. For the quantity that it has, nothing.",
    fields={
        "orderid": ORDERID,
        "lineid": LINEID,
        "qty": Field(QUANTITY, "How much it is of, what has left included."),
        "expected": Field(
            Whole(0, 1_000_000), "How much you have seen it to be of: if that is not so, it is refused; null: whatever."
        ),
    },
    example={"orderid": "order-1", "lineid": "line-1", "qty": 8, "expected": 12},
    lookups=lambda command: Lookups(lines=[(command.orderid, command.lineid)]),
    refuses=[
        errors.UnknownLine,
        errors.StaleQuantity,
        errors.BelowDispatched,
        errors.NoRoom,
        errors.OrderIsCancelled,
    ],
)
RELEASE_LINE = CommandRow(
    commands.ReleaseLine,
    "allocation.release_line.v1",
    asks="Give back what is promised to an order line, and wait for no more.",
    gives="Gives `allocation.line_released.v1` for each batch that something is promised from, and for what waits; "
    "when nothing does, nothing. What has left stays so. A line that was never known is refused.",
    fields={"orderid": ORDERID, "lineid": LINEID},
    example={"orderid": "order-1", "lineid": "line-1"},
    lookups=lambda command: Lookups(lines=[(command.orderid, command.lineid)]),
    refuses=[errors.UnknownLine],
)
CANCEL_ORDER = CommandRow(
    commands.CancelOrder,
    "allocation.cancel_order.v1",
    asks="Give back all that is promised to an order, wait for no more, and promise it nothing more.",
    gives="Gives `allocation.order_cancelled.v1` for each SKU that the order has a line of, and "
    "`allocation.line_released.v1` for all that is promised to it or waits; for a cancelled order nothing. What has "
    "left stays so. An order that all of has left is refused.",
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
    "the line was promised from, its promise moves there first, and other promises of that batch are broken "
    "until the rest fits. The same parcel again gives nothing. What is not promised, or not here, is refused.",
    fields={
        "orderid": ORDERID,
        "dispatch_id": Field(DOCUMENT, "The number of the parcel: sent twice for a line, it counts once."),
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
        documents=[documents.dispatch(command.orderid, line.lineid, command.dispatch_id) for line in command.lines],
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
        "return_id": Field(DOCUMENT, "The number of the return: sent twice for a line, it counts once."),
        "condition": Field(CONDITION, "For sale at once, or into quarantine to be looked at."),
        "batchref": Field(Text(), "The batch it belongs to; null: what left last is first."),
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
        documents=[documents.return_of(command)],
    ),
    refuses=[errors.UnknownLine, errors.UnknownBatch, errors.NotEnough, errors.DocumentConflict],
)

ALLOCATED = EventRow(
    events.Allocated,
    "allocated.v1",
    when="A line was asked for and a batch had room, or its promise was broken and another batch has room, or it has "
    "waited and its turn has come.",
    fields=_line("How much was promised: all of the line, but for what left or is promised from another batch.")
    | {"batchref": BATCHREF}
    | TERMS_OF_LINE
    | {
        "waits": Field(Flag(), "Whether the line waits, once nothing fits; else it is out of stock."),
        "waited": Field(Flag(), "Whether it has waited for this."),
    },
    example=events.Allocated(
        "order-1", "RED-CHAIR", 12, "batch-1", "line-1", 7, date(2031, 1, 15), True, True, ("hamburg",), True
    ),
    label="Allocated",
    tone="success",
    sentence=lambda event: (
        "{line} was promised {quantity} from batch {batchref}" + (", as it waited" if event.waited else "")
    ),
    stock=StockChange("batchref", taken=1),
)
BACKORDERED = EventRow(
    events.Backordered,
    "backordered.v1",
    when="A line was asked for, or lost its promise, and nothing fits: it waits. It is served in its turn, as soon as "
    "there is room: of the lines that wait for a SKU those of the highest priority first, and of them who came first. "
    "`allocation.allocated.v1` follows then.",
    fields=_line("How much it waits for, or how much more.")
    | {"since": Field(Whole(1, 2**63 - 1), "The version of the SKU at which the line was accepted.")}
    | TERMS_OF_LINE,
    example=events.Backordered("order-1", "RED-CHAIR", 12, "line-1", 7, 7, date(2031, 1, 15), True, ("hamburg",)),
    label="Backordered",
    tone="setback",
    sentence="{line} waits for {quantity}",
)
DEALLOCATED = EventRow(
    events.Deallocated,
    "deallocated.v1",
    when="A batch has less to sell than it had promised, as it shrank, expired or left for another: of its promises "
    "those of the lowest priority are broken, the newest first, and no more than must be. For each such line an "
    "`allocation.allocated.v1`, `allocation.backordered.v1` or `allocation.out_of_stock.v1` of the same SKU follows, "
    "with this event as its cause. All were committed together.",
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
_RELEASED = {True: "gave back {quantity} to batch {batchref}", False: "waits no longer for {quantity}"}
_WHY_RELEASED = {
    "released": "",
    "cancelled": ": it was cancelled",
    "changed": ": it was changed",
    "moved": ": it moved to another batch",
}
LINE_RELEASED = EventRow(
    events.LineReleased,
    "line_released.v1",
    when="A promise was given back, or a line waits for less, since somebody asked for that, changed the line or "
    "cancelled the order; or the line moved to another batch, where its goods were picked or it has room to grow.",
    fields=_line("How much is no longer promised, or waited for.")
    | {
        "batchref": Field(Text(required=False), "The reference of the batch; null for what the line waited for."),
        "why": Field(Choice(get_args(values.WhyReleased)), "What it was given back for."),
    },
    example=events.LineReleased("order-1", "RED-CHAIR", 12, "batch-1", "line-1", "released"),
    label="Promise given back",
    tone="change",
    sentence=lambda event: "{line} " + _RELEASED[event.batchref is not None] + _WHY_RELEASED[event.why],
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

MOST_LISTED = 100
"""Lines in the mail about what is out of stock."""

_SHORTAGES = {
    "sku": Field(Text(), "The stock keeping unit of the first of these lines."),
    "lines": Field(Whole(1, 2**53 - 1), "How many lines of the import are out of stock."),
    "listed": Field(Texts(MOST_LISTED, 1000), "The first of them, for people to read."),
}
REPORT_SHORTAGES = CommandRow(
    commands.ReportShortages,
    "allocation.report_shortages.v1",
    asks="Mail the stock team what an import found out of stock.",
    gives="Gives `allocation.shortages_reported.v1`.",
    fields=_SHORTAGES,
    example={"sku": "RED-CHAIR", "lines": 1, "listed": ["RED-CHAIR: order order-1, line line-1, asked for 12"]},
    lookups=lambda command: Lookups(skus=[command.sku]),
    refuses=[errors.InvalidSku],
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
