"""The parts of AsyncAPI 3.0.0 that our document uses, as a JSON Schema of our own, after the specification's tables.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from typing import Any

from messaging.codec import JsonObject


def _object(required: str, **properties: JsonObject) -> JsonObject:
    """An object of the specification: no other fields, except for its extensions."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "patternProperties": {r"^x-[\w\d.\-_]+$": True},
        "additionalProperties": False,
    }


def _map(values: JsonObject) -> JsonObject:
    return {"type": "object", "patternProperties": {r"^[A-Za-z0-9_.\-]+$": values}, "additionalProperties": False}


_TEXT: JsonObject = {"type": "string", "minLength": 1}
_REFERENCE: JsonObject = {
    "type": "object",
    "properties": {"$ref": {"type": "string", "pattern": "^#/"}},
    "required": ["$ref"],
    "additionalProperties": False,
}
_REFERENCES: JsonObject = {"type": "array", "items": _REFERENCE, "minItems": 1, "uniqueItems": True}
_VARIABLE = _object("", default=_TEXT, description=_TEXT)
_SERVER = _object("host protocol", host=_TEXT, protocol=_TEXT, description=_TEXT, variables=_map(_VARIABLE))
_CHANNEL = _object("", address=_TEXT, description=_TEXT, servers=_REFERENCES, messages=_map(_REFERENCE))
_OPERATION = _object("action channel", action={"enum": ["send", "receive"]}, channel=_REFERENCE, messages=_REFERENCES)
_EXAMPLE = _object("payload", name=_TEXT, payload={"type": "object"})
_MESSAGE = _object(
    "",
    name=_TEXT,
    title=_TEXT,
    summary=_TEXT,
    description=_TEXT,
    contentType={"type": "string", "pattern": r"^[\w.+\-]+/[\w.+\-]+$"},
    payload={"type": "object"},  # a schema, which is looked at by itself
    correlationId=_object("location", location={"type": "string", "pattern": r"^\$message\.(header|payload)#(/.+)*$"}),
    examples={"type": "array", "items": _EXAMPLE, "minItems": 1},
)
_INFO = _object("title version", title=_TEXT, version=_TEXT, description=_TEXT, license=_object("name", name=_TEXT))

SCHEMA: dict[str, Any] = _object(
    "asyncapi info",
    asyncapi={"const": "3.0.0"},
    info=_INFO,
    defaultContentType=_TEXT,
    servers=_map(_SERVER),
    channels=_map(_CHANNEL),
    operations=_map(_OPERATION),
    components=_object("", messages=_map(_MESSAGE)),
)
