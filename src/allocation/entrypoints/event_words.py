"""Events in one sentence each, as the table of messages has it: for the terminal, and for the console with links."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Formatter
from typing import Any, Literal, TypeAlias, cast

from allocation.domain.events import Event
from allocation.service_layer import messages

Kind: TypeAlias = Literal["batch", "document", "hold", "line", "order", "sku"]


@dataclass(frozen=True, slots=True)
class Name:
    """A part of a sentence that came from outside, and what it is the name of."""

    text: str
    of: Kind

    def __str__(self) -> str:
        return self.text


Sentence: TypeAlias = list[str | Name]

_NAMES: dict[str, Kind] = {
    "ref": "batch",
    "batchref": "batch",
    "rest": "batch",
    "dispatch_id": "document",
    "hold_id": "hold",
    "orderid": "order",
    "sku": "sku",
}


def in_words(event: Event, *, names_sku: bool = True) -> Sentence:
    """`names_sku`: False where all that is shown is of one SKU."""
    template = messages.event_row(type(event)).sentence_of(event)
    return list(_pieces(template, event, names_sku=names_sku))


def _pieces(template: str, event: Any, *, names_sku: bool) -> Iterator[str | Name]:
    for text, field, *_ in Formatter().parse(template):
        if text:
            yield text
        if field == "line":
            yield from _pieces("order {orderid}", event, names_sku=names_sku)
            if event.lineid != event.sku:
                yield ", line "
                yield Name(event.lineid, "line")
                yield ","
        elif field in ("quantity", "of_sku"):
            if field == "quantity":
                yield f"{event.qty:,}"
            if names_sku:
                yield " of "
                yield Name(event.sku, "sku")
        elif field in _NAMES:
            yield Name(cast(str, getattr(event, field)), _NAMES[field])
        elif field:
            yield _shown(getattr(event, field))


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{value:,}" if isinstance(value, int) else str(value)
