"""Events as a person would tell them, in one sentence each: on the terminal, and in the console with links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from allocation.domain.events import Allocated, BatchCreated, BatchQuantityChanged, Deallocated, Event, OutOfStock


@dataclass(frozen=True, slots=True)
class Name:
    """A part of a sentence that came from outside, and what it is the name of."""

    text: str
    of: Literal["batch", "line", "order", "sku"]

    def __str__(self) -> str:
        return self.text


Sentence = list[str | Name]


def in_words(event: Event, *, names_sku: bool = True) -> Sentence:
    """`names_sku`: False where all that is told is of one SKU."""
    of_sku: Sentence = [" of ", Name(event.sku, "sku")] if names_sku else []
    some: Sentence = [f"{event.qty:,}", *of_sku]
    match event:
        case BatchCreated(eta=None):
            return ["batch ", Name(event.ref, "batch"), " brought ", *some, ", in the warehouse"]
        case BatchCreated():
            return ["batch ", Name(event.ref, "batch"), " will bring ", *some, f" on {event.eta}"]
        case BatchQuantityChanged():
            return ["batch ", Name(event.ref, "batch"), " holds ", *some, " now"]
        case Allocated():
            return [*_line(event), " was promised ", *some, " from batch ", Name(event.batchref, "batch")]
        case Deallocated():
            return [*_line(event), " lost its ", *some, " from batch ", Name(event.batchref, "batch")]
        case OutOfStock():
            return [*_line(event), " asked for ", *some, ": out of stock"]
        case _:  # pragma: no cover
            assert_never(event)


def _line(event: Allocated | Deallocated | OutOfStock) -> Sentence:
    order: Sentence = ["order ", Name(event.orderid, "order")]
    return order if event.lineid == event.sku else [*order, ", line ", Name(event.lineid, "line"), ","]
