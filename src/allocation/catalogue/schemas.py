"""JSON Schemas of the messages, from the types that validate and write them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import TypeAdapter

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.catalogue import descriptions
from allocation.domain import events
from allocation.validation import BatchQuantity, LineQuantity, Schema, Text
from messaging.cloud_events import CloudEvent
from messaging.codec import JsonObject
from messaging.envelope import Metadata

_LINE = {"orderid": Text, "sku": Text, "qty": LineQuantity, "lineid": Text}

# What we promise of each field that we send: no wider than what we let in.
EVENTS: dict[type, Schema[Any]] = {
    events.BatchCreated: Schema(
        events.BatchCreated, {"ref": Text, "sku": Text, "qty": BatchQuantity, "eta": date | None}
    ),
    events.BatchQuantityChanged: Schema(events.BatchQuantityChanged, {"ref": Text, "sku": Text, "qty": BatchQuantity}),
    events.Allocated: Schema(events.Allocated, {**_LINE, "batchref": Text}),
    events.Deallocated: Schema(events.Deallocated, {**_LINE, "batchref": Text}),
    events.OutOfStock: Schema(events.OutOfStock, _LINE),
}


def event(kind: type) -> JsonObject:
    """A CloudEvent of the stream `allocation.events`."""
    return _described(CLOUD_EVENTS.json_schema(kind, fields(EVENTS[kind])), descriptions.SENT_ATTRIBUTES)


def command(name: str, schema: Schema[Any]) -> JsonObject:
    """A CloudEvent of the stream `allocation.commands`."""
    return _described(_plain(CloudEvent.json_schema(name, fields(schema))), descriptions.ACCEPTED_ATTRIBUTES)


def line_allocated() -> JsonObject:
    """The book's message, and its metadata."""
    message = fields(EVENTS[events.Allocated])
    known = _plain(TypeAdapter(Metadata).json_schema(mode="serialization"))
    told = {name: field for name, field in known["properties"].items() if name in descriptions.METADATA}
    metadata = _described({"type": "object", "properties": told, "required": list(told)}, descriptions.METADATA)
    return {
        **message,
        "properties": message["properties"] | {"metadata": {"description": descriptions.ABOUT_METADATA} | metadata},
        "required": [*message["required"], "metadata"],
    }


def fields(schema: Schema[Any]) -> JsonObject:
    """The fields alone, without an envelope."""
    quantity = {"qty": descriptions.QUANTITIES[schema.kind]} if schema.kind in descriptions.QUANTITIES else {}
    return _described(_plain(schema.json_schema()), descriptions.FIELDS | quantity)


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
