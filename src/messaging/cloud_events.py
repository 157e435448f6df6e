"""Messages as other systems see them: CloudEvents 1.0, structured JSON.

Sources: the CloudEvents specification 1.0.2, its JSON format, and its extensions `sequence`, `correlation`,
`authcontext` and `distributed tracing`.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails, to_json

from messaging.codec import Codec, JsonObject
from messaging.envelope import LONGEST_TEXT, Metadata, Recorded
from messaging.errors import UnreadableMessage
from messaging.json_input import read_json
from messaging.trace_context import sent_in, traceparent

# No control characters and no lone surrogates: these become keys and log lines.
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"
_VERSION = r"^1\.0$"
_Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT, pattern=_PRINTABLE)]

_TEXT: JsonObject = {"type": "string", "minLength": 1}
_MAY_BE_MISSING = {"causationid", "authtype", "authid", "traceparent"}


@dataclass(frozen=True, slots=True)
class CloudEvents:
    """Writes events of one source, whose types are the codec's wire names behind a prefix. When `traced` they say where
    in a trace they stand."""

    codec: Codec
    source: str
    prefix: str
    traced: bool = False

    def type_of(self, kind: type) -> str:
        return self.type_named(self.codec.name(kind))

    def type_named(self, name: str) -> str:
        """The type of what is stored under this wire name, whether or not today's program knows it."""
        return f"{self.prefix}.{name}"

    def bare(self, event: object) -> JsonObject:
        """Its type and its data, of one that has no place in the log."""
        name, data = self.codec.encode(event)
        return {"type": self.type_named(name), "data": data}

    def encode(self, recorded: Recorded[object]) -> bytes:
        _, data = self.codec.encode(recorded.event)
        metadata = recorded.metadata
        causation = {"causationid": metadata.causation_id} if metadata.causation_id else {}
        event = {
            "specversion": "1.0",
            "id": metadata.id,
            "source": self.source,
            "type": self.type_of(type(recorded.event)),
            "subject": recorded.stream,
            "time": metadata.time.isoformat(),
            "datacontenttype": "application/json",
            "sequence": str(recorded.version),
            "correlationid": metadata.correlation_id,
            **causation,
            **_auth_context(metadata.principal),
            **({"traceparent": traceparent(metadata)} if self.traced else {}),
            "data": data,
        }
        return to_json(event)

    def read_back(self, name: str, data: JsonObject) -> object:
        """The event that was once written under this type, as today's program knows it. Raises UnreadableMessage."""
        return self.codec.decode(name.removeprefix(f"{self.prefix}."), data)

    def json_schema(self, kind: type, data: JsonObject) -> JsonObject:
        """What `encode` writes of an event of this kind, whose fields are described by `data`."""
        properties = {
            "specversion": {"const": "1.0"},
            "id": _TEXT,
            "source": {"const": self.source},
            "type": {"const": self.type_of(kind)},
            "subject": _TEXT,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "sequence": {"type": "string", "pattern": "^[1-9][0-9]*$"},
            "correlationid": _TEXT,
            "causationid": _TEXT,
            "authtype": _TEXT,
            "authid": _TEXT,
            "traceparent": _TEXT,
            "data": data,
        }
        required = [name for name in properties if name not in _MAY_BE_MISSING]
        return {"type": "object", "properties": properties, "required": required}


def _auth_context(principal: str | None) -> dict[str, str]:
    if principal is None:
        return {}
    kind, _, name = principal.partition(":")
    return {"authtype": kind, "authid": name}


_RULES = {
    "missing": "is missing",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    _VERSION: "must be '1.0'",
    _PRINTABLE: "must have no control characters",
}
"""By the kind of problem, as pydantic calls it, or the pattern that was missed; of others it says it well itself."""


def _in_words(problem: ErrorDetails) -> str:
    where = ".".join(map(str, problem["loc"])) or "body"
    kind = problem.get("ctx", {}).get("pattern", problem["type"])
    rule = _RULES.get(kind, problem["msg"][:1].lower() + problem["msg"][1:])
    found = "" if problem["type"] == "missing" else f", not {reprlib.repr(problem['input'])}"
    return f"{where}: {rule}{found}"


class CloudEvent(BaseModel):
    """A message from another system. `source` and `id` together name it; attributes that we do not use may be there."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    specversion: Annotated[str, StringConstraints(pattern=_VERSION)]
    id: _Text
    source: _Text
    type: _Text
    data: dict[str, Any]
    correlationid: _Text | None = Field(default=None)
    traceparent: Any = None  # one that can't be read is as good as none

    @classmethod
    def read_json(cls, body: bytes) -> CloudEvent:
        """Raises UnreadableMessage."""
        try:
            return cls.model_validate(read_json(body))
        except ValidationError as error:
            raise UnreadableMessage(f"not a CloudEvent: {'; '.join(map(_in_words, error.errors()))}") from error
        except ValueError as error:
            raise UnreadableMessage(f"invalid JSON: {error}") from error

    @classmethod
    def json_schema(cls, kind: str, data: JsonObject) -> JsonObject:
        """What is read as an event of this type, whose `data` is so described."""
        schema = cls.model_json_schema()
        del schema["additionalProperties"]  # that there may be others is what JSON Schema says of itself
        return schema | {"properties": schema["properties"] | {"type": {"const": kind}, "data": data}}

    @property
    def others(self) -> Collection[str]:
        """The attributes that we do not use."""
        return (self.model_extra or {}).keys()

    @property
    def message_id(self) -> str:
        """As it is kept in the inbox."""
        return json.dumps([self.source, self.id], ensure_ascii=False)

    @property
    def metadata(self) -> Metadata:
        """What followed from it will name it as its cause. Its own is the span in which it was sent, if that is said;
        then that span's trace is the correlation, unless another is given."""
        metadata = replace(Metadata.first(self.source, self.correlationid or self.id), id=self.id)
        return sent_in(metadata, self.traceparent) if isinstance(self.traceparent, str) else metadata
