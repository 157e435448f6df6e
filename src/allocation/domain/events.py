"""What has happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class BatchCreated:
    """Stock was purchased."""

    ref: str
    sku: str
    qty: int
    eta: date | None


@dataclass(frozen=True, slots=True)
class BatchQuantityChanged:
    """A batch turned out to hold `qty`."""

    ref: str
    sku: str
    qty: int


@dataclass(frozen=True, slots=True)
class Allocated:
    """A line was promised stock from a batch."""

    orderid: str
    sku: str
    qty: int
    batchref: str
    lineid: str


@dataclass(frozen=True, slots=True)
class Deallocated:
    """A promise was broken because its batch no longer holds enough."""

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


Event: TypeAlias = BatchCreated | BatchQuantityChanged | Allocated | Deallocated | OutOfStock | ShortagesReported
