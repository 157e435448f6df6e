"""The shapes of what is answered under /v1, beside those that the views tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from allocation.views import Batch, Stock


@dataclass(frozen=True, slots=True)
class Products:
    """A page of SKUs, in their order; `next` is the cursor of the next page, null on the last."""

    items: list[Stock]
    next: str | None


@dataclass(frozen=True, slots=True)
class Batches:
    """A page of the batches of a SKU, in the order of allocation; `next` is the cursor of the next page, null on the
    last."""

    items: list[Batch]
    next: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to a SKU: the `version`-th. `type` and `data` are those of the event stream.

    `principal` is who asked for it, as `api_key:shop`; null where nobody had to say.
    """

    id: str
    type: str
    sku: str
    version: int
    time: datetime
    correlation_id: str
    causation_id: str | None
    principal: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Events:
    """A page of events, in the order of their commits. `next` is the cursor of the next page, null when there is none
    yet; `resume` is the cursor for what comes after this page, whenever it comes."""

    items: list[Event]
    next: str | None
    resume: str | None


@dataclass(frozen=True, slots=True)
class Allocation:
    """A line that was promised stock; `eta` null: from the warehouse."""

    orderid: str
    lineid: str
    sku: str
    qty: int
    batchref: str
    eta: date | None
