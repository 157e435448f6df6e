"""JSON Schemas of the messages, from the types that validate and write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from allocation.adapters import outcome_messages
from allocation.adapters.redis_eventpublisher import LINE_ALLOCATED_FIELDS
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.catalogue import descriptions
from allocation.service_layer.messages import ordering
from allocation.service_layer.messages.table import CommandRow, EventRow, Fields, Record, Several
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


def outcome() -> JsonObject:
    """A CloudEvent of a stream of replies."""
    text = {"type": "string", "minLength": 1}
    event = {"type": "object", "properties": {"type": text, "data": {"type": "object"}}, "required": ["type", "data"]}
    events = {"type": "array", "items": _described(event, descriptions.OUTCOME_EVENT)}
    dry_run = {"dry_run": {"const": True}, "events": events}
    data = {
        "type": "object",
        "properties": {"command": text, "result": {}, "refused": text, "because": text} | dry_run,
        "required": ["command"],
        "oneOf": [{"required": ["result"]}, {"required": ["refused", "because"]}],
    }
    attributes = {
        "specversion": {"const": "1.0"},
        "id": text,
        "source": {"const": CLOUD_EVENTS.source},
        "type": {"const": outcome_messages.TYPE},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "correlationid": text,
        "causationid": text,
        "data": _described(data, descriptions.OUTCOME),
    }
    return _described(
        {"type": "object", "properties": attributes, "required": list(attributes)}, descriptions.OUTCOME_ATTRIBUTES
    )


def line_allocated() -> JsonObject:
    """The book's message, and its metadata."""
    message = fields(ordering.ALLOCATED)
    shown = {name: message["properties"][name] for name in LINE_ALLOCATED_FIELDS}
    known = _plain(TypeAdapter(Metadata).json_schema(mode="serialization"))
    told = {name: field for name, field in known["properties"].items() if name in descriptions.METADATA}
    metadata = _described({"type": "object", "properties": told, "required": list(told)}, descriptions.METADATA)
    return {
        **message,
        "properties": shown | {"metadata": {"description": descriptions.ABOUT_METADATA} | metadata},
        "required": [*message["required"], "metadata"],
    }


def fields(row: EventRow[Any] | CommandRow[Any]) -> JsonObject:
    """The fields alone, without an envelope."""
    return _with_meanings(_plain(Schema(row).json_schema()), row.fields)


def _with_meanings(schema: JsonObject, meanings: Fields) -> JsonObject:
    """An object's fields described, and those of objects within it."""
    described = _described(schema, {one.wire or name: one.meaning for name, one in meanings.items()})
    for name, one in meanings.items():
        of = one.limit.of if isinstance(one.limit, Several) else one.limit
        if isinstance(of, Record):
            within = described["properties"][one.wire or name]
            if isinstance(one.limit, Several):
                within["items"] = _within(within["items"], of.fields)
            else:
                within["anyOf"] = [
                    _within(kind, of.fields) if "properties" in kind else kind for kind in within["anyOf"]
                ]
    return described


def _within(schema: JsonObject, meanings: Fields) -> JsonObject:
    closed = {name: value for name, value in schema.items() if name == "additionalProperties"}
    return _with_meanings(_plain(schema), meanings) | closed


def _plain(schema: JsonObject) -> JsonObject:
    """Without pydantic's titles, and the docstrings of the code."""
    properties = {
        name: {key: value for key, value in field.items() if key not in ("title", "description")}
        for name, field in schema["properties"].items()
    }
    impossible = {"not": schema["not"]} if "not" in schema else {}
    return {"type": "object", "properties": properties, "required": schema.get("required", [])} | impossible


def _described(schema: JsonObject, meanings: Mapping[str, str]) -> JsonObject:
    without_meaning = schema["properties"].keys() - meanings.keys()
    assert not without_meaning, f"allocation/catalogue/descriptions.py does not say what these mean: {without_meaning}"
    properties = {name: {"description": meanings[name]} | field for name, field in schema["properties"].items()}
    return schema | {"properties": properties}
