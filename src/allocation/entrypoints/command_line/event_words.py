"""Events as a person would tell them, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_never

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.domain.events import (
    Allocated,
    BatchCreated,
    BatchQuantityChanged,
    Deallocated,
    Event,
    OutOfStock,
)
from messaging.errors import UnreadableMessage

COLOURS: dict[type, str] = {
    BatchCreated: "cyan",
    BatchQuantityChanged: "yellow",
    Allocated: "green",
    Deallocated: "magenta",
    OutOfStock: "red",
}


def in_words(event: Event) -> str:
    match event:
        case BatchCreated(eta=None):
            return f"batch {event.ref} brought {event.qty:,} of {event.sku}, in the warehouse"
        case BatchCreated():
            return f"batch {event.ref} will bring {event.qty:,} of {event.sku} on {event.eta}"
        case BatchQuantityChanged():
            return f"batch {event.ref} holds {event.qty:,} of {event.sku} now"
        case Allocated():
            return f"{_line(event)} was promised {event.qty:,} of {event.sku} from batch {event.batchref}"
        case Deallocated():
            return f"{_line(event)} lost its {event.qty:,} of {event.sku} from batch {event.batchref}"
        case OutOfStock():
            return f"{_line(event)} asked for {event.qty:,} of {event.sku}: out of stock"
        case _:  # pragma: no cover
            assert_never(event)


def event_in(cloud_event: Mapping[str, Any]) -> Event | None:
    """None if it is of a type, or a version, that we do not know."""
    name = str(cloud_event.get("type")).removeprefix(f"{CLOUD_EVENTS.prefix}.")
    data = cloud_event.get("data")
    try:
        event: Any = CLOUD_EVENTS.codec.decode(name, data if isinstance(data, dict) else {})
    except UnreadableMessage:
        return None
    return event  # type: ignore[no-any-return]


def moment_of(cloud_event: Mapping[str, Any], today: datetime) -> str:
    """The time of day here, behind the date if that is not today's; `today` has a time zone."""
    try:
        moment = datetime.fromisoformat(str(cloud_event.get("time"))).astimezone(today.tzinfo)
    except ValueError:
        return "--:--:--"
    return f"{moment:%H:%M:%S}" if moment.date() == today.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def printable(text: str) -> str:
    """What could move the cursor or clear the screen is shown as what it is."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _line(event: Allocated | Deallocated | OutOfStock) -> str:
    return f"order {event.orderid}" if event.lineid == event.sku else f"order {event.orderid}, line {event.lineid},"
