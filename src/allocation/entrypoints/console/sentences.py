"""Events in words for the pages: what marks each kind, and links from SKUs and orders to their pages."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from allocation.domain.events import Event
from allocation.entrypoints import event_words
from allocation.entrypoints.event_words import Name
from allocation.service_layer import messages


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of a sentence. A `name` is text from outside; it leads to the page of what it names."""

    text: str
    is_name: bool = False
    href: str | None = None


def mark_of(event: Event | None) -> tuple[str, str]:
    """How its kind is marked, and what it is called."""
    if event is None:
        return "unknown", "Not known"
    row = messages.event_row(type(event))
    return row.tone, row.label


def sentence_of(event: Event | None, wire_name: str, *, names_sku: bool = True) -> list[Words]:
    """`wire_name`: what an event is called that this version of the service can't read."""
    if event is None:
        return [Words("An event that this version can’t read: "), Words(wire_name, is_name=True)]
    first, *others = event_words.in_words(event, names_sku=names_sku)
    return [Words(str(first).capitalize()), *map(_piece, others)]


def _piece(piece: str | Name) -> Words:
    if isinstance(piece, str):
        return Words(piece)
    return Words(piece.text, is_name=True, href=_page_of(piece))


def _page_of(name: Name) -> str | None:
    """Known without a request: a stream outlives the one that asked for it."""
    match name.of:
        case "sku":
            return f"/console/product?{urlencode({'sku': name.text})}"
        case "order":
            return f"/console/order?{urlencode({'id': name.text})}"
        case _:
            return None
