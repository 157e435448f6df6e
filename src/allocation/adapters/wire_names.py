"""How events and refusals are stored and sent, read off the table of messages."""

from __future__ import annotations

from allocation.domain.errors import DomainError, Kind, UnknownRefusal
from allocation.service_layer import messages
from allocation.service_layer.messages import EVENTS
from messaging.cloud_events import CloudEvents
from messaging.codec import Codec
from messaging.refusals import Refusals

CODEC = Codec({row.name: row.kind for row in EVENTS})
"""An upcaster under the name of an older version reads it as today's: `upcasters={"allocated.v1": to_v2}`."""

REFUSALS = Refusals(messages.REFUSALS, UnknownRefusal)

_RENAMED = {"invalid_sku": "unknown-sku"}  # published before refusals had codes

NOT_FOUND = "not-found"
PRECONDITION_FAILED = "precondition-failed"
INVALID_VALUES = "invalid-values"
IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
INTERNAL_ERROR = "internal-error"

_OF_KIND = {Kind.NOT_FOUND: NOT_FOUND, Kind.STALE: PRECONDITION_FAILED}


def problem_type(name: str) -> str:
    """A path, at which this service says what it means."""
    return f"/problems/{name}"


def problem_name(refusal: type[DomainError]) -> str:
    """What a refusal is called in answers: over HTTP, and on streams of replies."""
    return _OF_KIND.get(refusal.kind) or _RENAMED.get(refusal.code) or refusal.code.replace("_", "-")


CLOUD_EVENTS = CloudEvents(CODEC, source="/allocation", prefix="allocation")
