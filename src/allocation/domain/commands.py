"""What we may be asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from allocation.domain.events import Condition, Reason

Revision: TypeAlias = tuple[int, ...]
"""All of a batch that ever changes, so that whoever has seen it can say so."""


@dataclass(frozen=True, slots=True)
class CreateBatch:
    """Add purchased stock; without an `eta` it is in the warehouse already."""

    ref: str
    sku: str
    qty: int
    eta: date | None = None
    expires: date | None = None


@dataclass(frozen=True, slots=True)
class Allocate:
    """Promise `qty` of `sku` to one order line; without a `lineid` it is known by the SKU."""

    orderid: str
    sku: str
    qty: int
    lineid: str = ""

    def __post_init__(self) -> None:
        if not self.lineid:
            object.__setattr__(self, "lineid", self.sku)


@dataclass(frozen=True, slots=True)
class ChangeBatchQuantity:
    """State how much the batch `ref` really holds.

    Whoever has looked at the batch may say so in `seen`, its revision: if it is another by now, the change is refused.
    Of several any one will do; None: whatever it is.
    """

    ref: str
    qty: int
    seen: tuple[Revision, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReportShortages:
    """Mail the stock team, once, how many `lines` of an import are out of stock, some of which are `listed`. `sku`
    is that of the first. Only an import asks for it."""

    sku: str
    lines: int
    listed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeEta:
    """State the day on which a batch is expected now. `seen` is as in `ChangeBatchQuantity`."""

    ref: str
    eta: date
    seen: tuple[Revision, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """What of a batch did not arrive with it, and will be expected as a batch of its own."""

    ref: str
    eta: date


@dataclass(frozen=True, slots=True)
class ReceiveBatch:
    """A batch has arrived: so much of it, of which so much is damaged. What is missing comes as the `rest`, or never.

    Of a batch that was received before it is more.
    """

    ref: str
    receipt_id: str
    received: int
    damaged: int = 0
    expires: date | None = None
    rest: Rest | None = None


@dataclass(frozen=True, slots=True)
class CountBatch:
    """So much of a batch is on the shelf. The count is refused unless the books still say `expected`, as they did when
    it began."""

    ref: str
    counted: int
    expected: int
    count_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Sell no more of these goods for now."""

    ref: str
    qty: int
    reason: Reason
    document: str


@dataclass(frozen=True, slots=True)
class ReleaseQuarantine:
    """Sell these goods again."""

    ref: str
    qty: int
    document: str


@dataclass(frozen=True, slots=True)
class WriteOff:
    """Give up goods that are in quarantine."""

    ref: str
    qty: int
    reason: Reason
    document: str


@dataclass(frozen=True, slots=True)
class ReleaseLine:
    """Give back what is promised to a line. What has left stays so."""

    orderid: str
    lineid: str


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Give back what is promised to an order, and promise it nothing more."""

    orderid: str


@dataclass(frozen=True, slots=True)
class ParcelLine:
    """So much of a line is in a parcel; `batchref` says which batch the picker took it from."""

    lineid: str
    qty: int
    batchref: str | None = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A parcel of an order has left."""

    orderid: str
    dispatch_id: str
    lines: tuple[ParcelLine, ...]


@dataclass(frozen=True, slots=True)
class ReturnLine:
    """Goods of a line have come back, to the batch that left last unless `batchref` names another."""

    orderid: str
    lineid: str
    qty: int
    return_id: str
    condition: Condition
    batchref: str | None = None


Command: TypeAlias = (
    CreateBatch
    | ChangeBatchQuantity
    | ChangeEta
    | ReceiveBatch
    | CountBatch
    | Quarantine
    | ReleaseQuarantine
    | WriteOff
    | Allocate
    | ReleaseLine
    | CancelOrder
    | Dispatch
    | ReturnLine
)
