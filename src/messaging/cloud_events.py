"""Messages as other systems see them: CloudEvents 1.0, structured JSON.

Sources: the CloudEvents specification 1.0.2, its JSON format, and its extensions `sequence` and `correlation`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import from_json, to_json

from messaging.codec import Codec
from messaging.envelope import Metadata, Recorded
from messaging.errors import UnreadableMessage

# No control characters and no lone surrogates: these become keys and log lines.
_Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


@dataclass(frozen=True, slots=True)
class CloudEvents:
    """Writes events of one source, whose types are the codec's wire names behind a prefix."""

    codec: Codec
    source: str
    prefix: str

    def type_of(self, kind: type) -> str:
        return f"{self.prefix}.{self.codec.name(kind)}"

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
            "data": data,
        }
        return to_json(event)


class CloudEvent(BaseModel):
    """A message from another system. `source` and `id` together name it; attributes that we do not use may be there."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    specversion: Annotated[str, StringConstraints(pattern=r"^1\.0$")]
    id: _Text
    source: _Text
    type: _Text
    data: dict[str, Any]
    correlationid: _Text | None = Field(default=None)

    @classmethod
    def read_json(cls, body: bytes) -> CloudEvent:
        """Raises UnreadableMessage."""
        try:
            return cls.model_validate(from_json(body, allow_inf_nan=False))
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors())
            raise UnreadableMessage(f"not a CloudEvent: {'; '.join(problems)}") from error
        except ValueError as error:
            raise UnreadableMessage(f"invalid JSON: {error}") from error

    @property
    def message_id(self) -> str:
        """As it is kept in the inbox."""
        return json.dumps([self.source, self.id], ensure_ascii=False)

    @property
    def metadata(self) -> Metadata:
        """What followed from it will name it as its cause."""
        return replace(Metadata.first(self.source, self.correlationid or self.id), id=self.id)
