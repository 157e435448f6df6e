"""Writes what is generated from the code: docs/events.md and the published schemas. Refuses what would break others.

A published schema changes only in ways that break nobody. Whatever breaks is a new version with a name of its own: an
old event needs an upcaster, since the log holds it; an old command is still read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.compatibility import breaks

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.catalogue import history, messages, page
from allocation.catalogue.messages import EVENT_STREAM, SENT, Direction, Message
from messaging.cloud_events import CloudEvents
from messaging.codec import JsonObject
from messaging.errors import UnreadableMessage

ROOT = Path(__file__).parents[1]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ADVICE = "give what changes a new version, and keep the old one readable; see CONTRIBUTING.md"


def expected() -> dict[Path, str]:
    """What the files should hold, by their paths."""
    published = history.published()
    folder = ROOT / "src/allocation/catalogue/published"
    schemas = {
        folder / f"{message.name}.json": history.written(document(message, published.get(message.name)))
        for message in messages()
    }
    return {ROOT / "docs/events.md": page.page(), **schemas}


def document(message: Message, before: JsonObject | None = None) -> JsonObject:
    """The schema as it is published. An example that was ever given is kept: such messages are out there."""
    earlier = [one for one in (before or {}).get("examples", ()) if one != message.example]
    return {
        "$schema": DIALECT,
        "title": message.name,
        "description": f"{message.says} {message.when}",
        "x-channel": message.channel.address,
        "x-direction": message.channel.direction,
        **message.schema,
        "examples": [message.example, *earlier],
    }


def broken_promises(
    published: Mapping[str, JsonObject], today: Iterable[Message], codec: CloudEvents = CLOUD_EVENTS
) -> Iterator[str]:
    """What would break somebody who relies on a published version, or make our own log unreadable."""
    current = {message.name: message for message in today}
    for name, schema in published.items():
        direction: Direction = schema["x-direction"]
        if name in current:
            for what in breaks(_shape(schema), current[name].schema, direction):
                yield f"{name}: {what}; {ADVICE}"
        elif direction != SENT:
            yield f"{name}: is no longer accepted; {ADVICE}"
        elif schema["x-channel"] != EVENT_STREAM.address:
            yield f"{name}: is no longer sent; it has no version, so nothing can take its place"
        if direction == SENT and schema["x-channel"] == EVENT_STREAM.address:
            yield from _unreadable(name, schema, codec)


def _unreadable(name: str, schema: JsonObject, codec: CloudEvents) -> Iterator[str]:
    """The log holds such events for good."""
    for example in schema["examples"]:
        try:
            codec.read_back(name, example["data"])
        except UnreadableMessage as error:
            yield f"{name}: the log holds such events, and they can't be read: {error}"


def _shape(schema: JsonObject) -> JsonObject:
    return {key: value for key, value in schema.items() if key in ("type", "properties", "required")}


if __name__ == "__main__":
    if broken := list(broken_promises(history.published(), messages())):
        sys.exit("\n".join(broken))
    for path, text in expected().items():
        path.write_text(text, "utf-8")
