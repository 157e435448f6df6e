"""The events: what has happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, TypeAlias

from allocation.domain.values import USUAL_PRIORITY, Condition, Reason, WhyHoldEnded, WhyReleased


@dataclass(frozen=True, slots=True)
class BatchCreated:
    """Stock was purchased."""

    ref: str
    sku: str
    qty: int
    eta: date | None
    expires: date | None = None
    location: str = ""


@dataclass(frozen=True, slots=True)
class BatchQuantityChanged:
    """A batch turned out to hold `qty`."""

    ref: str
    sku: str
    qty: int


@dataclass(frozen=True, slots=True)
class Allocated:
    """A line was promised stock from a batch; one that `waited` for it waits for so much less. Its terms are those of
    `LineTerms`."""

    orderid: str
    sku: str
    qty: int
    batchref: str
    lineid: str
    priority: int = USUAL_PRIORITY
    needed_by: date | None = None
    may_split: bool = False
    waits: bool = False
    locations: tuple[str, ...] = ()
    waited: bool = False


@dataclass(frozen=True, slots=True)
class Backordered:
    """A line waits for so much of a SKU, in the turn of lines accepted at the version `since`."""

    orderid: str
    sku: str
    qty: int
    lineid: str
    since: int
    priority: int = USUAL_PRIORITY
    needed_by: date | None = None
    may_split: bool = False
    locations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deallocated:
    """A promise was broken because its batch has no longer enough that can be sold."""

    orderid: str
    sku: str
    qty: int
    batchref: str
    lineid: str


@dataclass(frozen=True, slots=True)
class OutOfStock:
    """No batch had room for a line."""

    orderid: str
    sku: str
    qty: int
    lineid: str


@dataclass(frozen=True, slots=True)
class ShortagesReported:
    """An import has ended with lines that are out of stock."""

    sku: str
    lines: int
    listed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LineReleased:
    """A promise was given back by whoever asked, or given up for another batch; without a batch, a line that waited
    waits for so much less."""

    orderid: str
    sku: str
    qty: int
    batchref: str | None
    lineid: str
    why: WhyReleased


@dataclass(frozen=True, slots=True)
class OrderCancelled:
    """Nothing more is promised to this order. It is recorded for each SKU of which it ever had a line."""

    orderid: str
    sku: str


@dataclass(frozen=True, slots=True)
class Dispatched:
    """Goods that were promised to a line have left the warehouse."""

    orderid: str
    sku: str
    qty: int
    batchref: str
    lineid: str
    dispatch_id: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Goods that had left for a line are back in their batch; those to `check` are quarantined next."""

    orderid: str
    sku: str
    qty: int
    batchref: str
    lineid: str
    return_id: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class BatchReceived:
    """A batch arrived, or more of one that is here; `qty` is what it brought in all, `rest` what brings the missing."""

    ref: str
    sku: str
    receipt_id: str
    received: int
    damaged: int
    qty: int
    expires: date | None
    rest: str | None


@dataclass(frozen=True, slots=True)
class EtaChanged:
    """A batch is expected on another day."""

    ref: str
    sku: str
    eta: date


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Goods are here and not for sale. `document` names the quarantine, or the
    receipt or return that they `came_with`."""

    ref: str
    sku: str
    qty: int
    reason: Reason
    document: str
    came_with: Literal["receipt", "return"] | None = None


@dataclass(frozen=True, slots=True)
class QuarantineReleased:
    """Goods in quarantine are for sale again."""

    ref: str
    sku: str
    qty: int
    document: str


@dataclass(frozen=True, slots=True)
class WrittenOff:
    """Goods in quarantine are gone for good."""

    ref: str
    sku: str
    qty: int
    reason: Reason
    document: str


@dataclass(frozen=True, slots=True)
class BatchCounted:
    """Somebody counted what is on the shelf; `qty` is what the batch brought in all, by that."""

    ref: str
    sku: str
    count_id: str
    counted: int
    qty: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class BatchOverdue:
    """The day on which a batch was expected has passed."""

    ref: str
    sku: str
    eta: date


@dataclass(frozen=True, slots=True)
class BatchExpired:
    """The last day on which a batch could be sold has passed, and what was here of it is in quarantine: `qty`. Again,
    when something of it comes back after that."""

    ref: str
    sku: str
    qty: int


@dataclass(frozen=True, slots=True)
class HoldPlaced:
    """Stock of a batch is held for nobody's line yet, `until` that instant."""

    hold_id: str
    sku: str
    qty: int
    batchref: str
    until: datetime


@dataclass(frozen=True, slots=True)
class HoldExtended:
    """A hold lasts longer."""

    hold_id: str
    sku: str
    until: datetime


@dataclass(frozen=True, slots=True)
class HoldEnded:
    """Nothing is held under this id any more."""

    hold_id: str
    sku: str
    qty: int
    batchref: str
    why: WhyHoldEnded


Event: TypeAlias = (
    BatchCreated
    | BatchQuantityChanged
    | BatchReceived
    | BatchCounted
    | EtaChanged
    | BatchOverdue
    | BatchExpired
    | HoldPlaced
    | HoldExtended
    | HoldEnded
    | Quarantined
    | QuarantineReleased
    | WrittenOff
    | Allocated
    | Backordered
    | Deallocated
    | OutOfStock
    | ShortagesReported
    | LineReleased
    | OrderCancelled
    | Dispatched
    | Returned
)
