"""Messages about order lines, and what they are allocated to."""

from __future__ import annotations

from allocation.domain import commands, errors, events
from allocation.domain.lines import OrderLine
from allocation.service_layer.messages.stock import SKU
from allocation.service_layer.messages.table import CommandRow, EventRow, Field, StockChange, Text, Texts, Whole
from allocation.service_layer.ports import Lookups

BATCHREF = Field(Text(), "The reference of the batch.")


def _line(quantity: str) -> dict[str, Field]:
    return {
        "orderid": Field(Text(), "The customer's order."),
        "sku": SKU,
        "qty": Field(Whole(1, 1_000_000), quantity),
        "lineid": Field(
            Text(), "The line of the order; when it is not given, its SKU. Order and line together name a line."
        ),
    }


ALLOCATE = CommandRow(
    commands.Allocate,
    "allocation.allocate.v1",
    asks="Promise stock to one order line.",
    gives="Gives `allocation.allocated.v1` or `allocation.out_of_stock.v1`; for a line that is allocated, just so, "
    "nothing. A SKU that was never purchased, or the same line with another SKU or quantity, is refused.",
    fields=_line("How much is asked for. A line is never split."),
    example={"orderid": "order-1", "sku": "RED-CHAIR", "qty": 12, "lineid": "line-1"},
    lookups=lambda command: Lookups(skus=[command.sku], lines=[OrderLine.of(command).key]),
    refuses=[errors.InvalidSku, errors.LineConflict],
    fingerprint_name="Allocate",
)

ALLOCATED = EventRow(
    events.Allocated,
    "allocated.v1",
    when="A line was asked for and a batch had room, or its promise was broken and another batch has room.",
    fields=_line("How much was promised. A line is never split.") | {"batchref": BATCHREF},
    example=events.Allocated("order-1", "RED-CHAIR", 12, "batch-1", "line-1"),
    label="Allocated",
    tone="success",
    sentence="{line} was promised {quantity} from batch {batchref}",
    stock=StockChange("batchref", allocated=1),
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
    stock=StockChange("batchref", allocated=-1),
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

_SHORTAGES = {
    "sku": Field(Text(), "The stock keeping unit of the first of these lines."),
    "lines": Field(Whole(1, 2**53 - 1), "How many lines of the import are out of stock."),
    "listed": Field(Texts(100, 1000), "The first of them, for people to read."),
}
REPORT_SHORTAGES = CommandRow(
    commands.ReportShortages,
    "allocation.report_shortages.v1",
    asks="Have the stock team told what an import found out of stock.",
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
