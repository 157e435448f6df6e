"""The commands: what callers, or the service itself, may want done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from allocation.domain.values import USUAL_PRIORITY, Condition, KnownBySku, Mode, Reason, Revision


@dataclass(frozen=True, slots=True)
class CreateBatch:
    """Add purchased stock; without an `eta` it is in the warehouse already. Stock without a `location` is at the one
    that has no name."""

    ref: str
    sku: str
    qty: int
    eta: date | None = None
    expires: date | None = None
    location: str = ""


@dataclass(frozen=True, slots=True)
class Allocate(KnownBySku):
    """Promise `qty` of `sku` to one order line."""

    orderid: str
    sku: str
    qty: int
    lineid: str = ""


@dataclass(frozen=True, slots=True)
class OrderedLine(KnownBySku):
    """So much of a SKU. The hold with the id `hold` ends, and its stock goes to the line first."""

    sku: str
    qty: int
    lineid: str = ""
    hold: str | None = None


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Promise stock to all lines of an order, in one transaction.

    Nothing that comes after the day `needed_by` is promised to it, and only what lies at one of its `locations`, the
    first preferred; None: anywhere. A line that `may_split` takes parts of several batches.
    """

    orderid: str
    lines: tuple[OrderedLine, ...]
    mode: Mode
    priority: int = USUAL_PRIORITY
    needed_by: date | None = None
    may_split: bool = False
    locations: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """Have an order line be of so many. The change is refused unless it is of `expected`, where that is given."""

    orderid: str
    lineid: str
    qty: int
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class PlaceHold:
    """Hold so much of a SKU for nobody's line yet, for so many seconds."""

    hold_id: str
    sku: str
    qty: int
    seconds: int


@dataclass(frozen=True, slots=True)
class ConfirmHold(KnownBySku):
    """Promise so much of what is held to an order line, and give back the rest."""

    hold_id: str
    sku: str
    qty: int
    orderid: str
    lineid: str = ""
    priority: int = USUAL_PRIORITY
    needed_by: date | None = None


@dataclass(frozen=True, slots=True)
class ExtendHold:
    """Hold it for so many seconds from now, if that is longer."""

    hold_id: str
    sku: str
    seconds: int


@dataclass(frozen=True, slots=True)
class VoidHold:
    """Give up what is held."""

    hold_id: str
    sku: str


@dataclass(frozen=True, slots=True)
class PullForward:
    """Move promises from batches that are preferred less to `ref`, as far as it has room, at `most` so many."""

    sku: str
    ref: str
    most: int = 100


@dataclass(frozen=True, slots=True)
class ApplyDueDates:
    """Record what of a SKU has come due by itself: holds that have run out, and of the batches `refs` which are overdue
    or expired. Only a clock asks for it."""

    sku: str
    refs: tuple[str, ...] = ()


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
    """Mail the stock team how many `lines` of an import are out of stock, some of which are `listed`. `sku`
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

    For a batch that has arrived before, it is added.
    """

    ref: str
    receipt_id: str
    received: int
    damaged: int = 0
    expires: date | None = None
    rest: Rest | None = None


@dataclass(frozen=True, slots=True)
class CountBatch:
    """So much of a batch is on the shelf. The count is refused unless the quantity on record is still `expected`, as it
    was when the count began."""

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
    """Give back what is promised to a line, and wait for no more. What has left stays so."""

    orderid: str
    lineid: str


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Give back what is promised to an order, wait for no more, and promise it nothing more."""

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
    """Goods of a line have come back, to the batches that left last, or all to `batchref`."""

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
    | PlaceOrder
    | ChangeLine
    | PlaceHold
    | ConfirmHold
    | ExtendHold
    | VoidHold
    | PullForward
    | ReleaseLine
    | CancelOrder
    | Dispatch
    | ReturnLine
    | ApplyDueDates
    | ReportShortages
)
