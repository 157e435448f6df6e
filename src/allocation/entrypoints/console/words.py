"""Events in words, with links from SKUs and orders to their pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never
from urllib.parse import urlencode

from allocation.domain.events import Allocated, BatchCreated, BatchQuantityChanged, Deallocated, Event, OutOfStock


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of a sentence. A `name` is text from outside; it leads to the page of what it names."""

    text: str
    is_name: bool = False
    href: str | None = None


Sentence = list[Words]

KINDS: dict[type, tuple[str, str]] = {
    BatchCreated: ("purchased", "Purchased"),
    BatchQuantityChanged: ("changed", "Quantity changed"),
    Allocated: ("allocated", "Allocated"),
    Deallocated: ("deallocated", "Promise broken"),
    OutOfStock: ("out-of-stock", "Out of stock"),
}
"""How each kind is marked, and what it is called."""


def kind_of(event: Event | None) -> tuple[str, str]:
    return KINDS[type(event)] if event else ("unknown", "Not known")


def in_words(event: Event | None, wire_name: str, *, names_sku: bool = True) -> Sentence:
    """`wire_name`: what an event is called that this version of the service can't read."""
    if event is None:
        return [Words("An event that this version can’t read: "), _name(wire_name)]
    of_sku = [Words(" of "), Words(event.sku, is_name=True, href=_page("product", sku=event.sku))] if names_sku else []
    return _told(event, of_sku)


def _told(event: Event, of_sku: Sentence) -> Sentence:
    some = [Words(f"{event.qty:,}"), *of_sku]
    match event:
        case BatchCreated(eta=None):
            return [*some, Words(" came in, batch "), _name(event.ref)]
        case BatchCreated():
            return [*some, Words(" will come, batch "), _name(event.ref), Words(f", expected {event.eta}")]
        case BatchQuantityChanged():
            return [Words("Batch "), _name(event.ref), *of_sku, Words(f" now holds {event.qty:,}")]
        case Allocated():
            return [*some, Words(" promised to "), *_line(event), Words(" from batch "), _name(event.batchref)]
        case Deallocated():
            return [*some, Words(" for "), *_line(event), Words(" no longer fit in batch "), _name(event.batchref)]
        case OutOfStock():
            return [*some, Words(" asked for by "), *_line(event), Words(": no batch had room")]
        case _:
            assert_never(event)


def _page(name: str, **asked: str) -> str:
    """Known without a request: a stream outlives the one that asked for it."""
    return f"/console/{name}?{urlencode(asked)}"


def _name(text: str) -> Words:
    return Words(text, is_name=True)


def _line(event: Allocated | Deallocated | OutOfStock) -> Sentence:
    order = Words(event.orderid, is_name=True, href=_page("order", id=event.orderid))
    if event.lineid == event.sku:
        return [Words("order "), order]
    return [Words("order "), order, Words(", line "), _name(event.lineid)]
