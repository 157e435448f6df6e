"""JSON Schemas of the messages, from the types that validate and write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.catalogue import descriptions
from allocation.service_layer.messages import ordering
from allocation.service_layer.messages.table import CommandRow, EventRow
from allocation.validation import Schema
from messaging.cloud_events import CloudEvent
from messaging.codec import JsonObject
from messaging.envelope import Metadata


def event(row: EventRow[Any]) -> JsonObject:
    """A CloudEvent of the stream `allocation.events`."""
    return _described(CLOUD_EVENTS.json_schema(row.kind, fields(row)), descriptions.SENT_ATTRIBUTES)


def command(row: CommandRow[Any]) -> JsonObject:
    """A CloudEvent of the stream `allocation.commands`."""
    data = fields(row) | {"additionalProperties": False}
    return _described(_plain(CloudEvent.json_schema(row.name, data)), descriptions.ACCEPTED_ATTRIBUTES)


def line_allocated() -> JsonObject:
    """The book's message, and its metadata."""
    message = fields(ordering.ALLOCATED)
    known = _plain(TypeAdapter(Metadata).json_schema(mode="serialization"))
    told = {name: field for name, field in known["properties"].items() if name in descriptions.METADATA}
    metadata = _described({"type": "object", "properties": told, "required": list(told)}, descriptions.METADATA)
    return {
        **message,
        "properties": message["properties"] | {"metadata": {"description": descriptions.ABOUT_METADATA} | metadata},
        "required": [*message["required"], "metadata"],
    }


def fields(row: EventRow[Any] | CommandRow[Any]) -> JsonObject:
    """The fields alone, without an envelope."""
    meanings = {one.wire or name: one.meaning for name, one in row.fields.items()}
    return _described(_plain(Schema(row).json_schema()), meanings)


def _plain(schema: JsonObject) -> JsonObject:
    """Without pydantic's titles, and what is said to those who read the code."""
    properties = {
        name: {key: value for key, value in field.items() if key not in ("title", "description")}
        for name, field in schema["properties"].items()
    }
    return {"type": "object", "properties": properties, "required": schema["required"]}


def _described(schema: JsonObject, said: Mapping[str, str]) -> JsonObject:
    unsaid = schema["properties"].keys() - said.keys()
    assert not unsaid, f"allocation/catalogue/descriptions.py does not say what these mean: {unsaid}"
    properties = {name: {"description": said[name]} | field for name, field in schema["properties"].items()}
    return schema | {"properties": properties}
