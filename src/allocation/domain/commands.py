"""What we may be asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class CreateBatch:
    """Add purchased stock; without an `eta` it is in the warehouse already."""

    ref: str
    sku: str
    qty: int
    eta: date | None = None


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

    Whoever has looked at the batch may say so in `seen`, purchased and allocated quantity: if it is something else by
    now, the change is refused. Of several any one will do; None: whatever it is.
    """

    ref: str
    qty: int
    seen: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class ReportShortages:
    """Have the stock team told, once, how many `lines` of an import are out of stock, some of which are `listed`. `sku`
    is that of the first. Only an import asks for it."""

    sku: str
    lines: int
    listed: tuple[str, ...]


Command: TypeAlias = CreateBatch | Allocate | ChangeBatchQuantity
