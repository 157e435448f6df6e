"""Events as the terminal shows them: when, in which colour, and without what could move the cursor."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.domain.events import Event
from allocation.entrypoints.event_words import in_words
from allocation.service_layer import messages
from allocation.service_layer.messages.table import Tone
from messaging.errors import UnreadableMessage

_COLOURS: dict[Tone, str] = {
    "stock": "cyan",
    "change": "yellow",
    "success": "green",
    "setback": "magenta",
    "failure": "red",
}


def colour_of(event: Event) -> str:
    return _COLOURS[messages.event_row(type(event)).tone]


def in_a_line(event: Event) -> str:
    return "".join(map(str, in_words(event)))


def event_in(cloud_event: Mapping[str, Any]) -> Event | None:
    """None if it is of a type, or a version, that we do not know."""
    data = cloud_event.get("data")
    try:
        event: Any = CLOUD_EVENTS.read_back(str(cloud_event.get("type")), data if isinstance(data, dict) else {})
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
