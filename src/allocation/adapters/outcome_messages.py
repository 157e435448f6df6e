"""How a command from the stream has ended, or would, as whoever sent it is told: a CloudEvent on the stream that they
named."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from pydantic_core import to_json

from allocation.adapters import wire_names
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.domain.errors import DomainError
from messaging.envelope import LONGEST_TEXT, DryRun, Metadata, Outcome
from messaging.errors import MessageIdReused, UnreadableMessage

TYPE = "allocation.outcome.v1"


def outcome_message(entry_id: str, metadata: Metadata | None, outcome: Outcome, time: datetime | None = None) -> bytes:
    """Without `metadata` the message could not be read, and is known by its entry in the stream. A dry run always is:
    the command itself, and other dry runs of it, may have other outcomes."""
    command = metadata.id if metadata else entry_id
    own = f"{entry_id}:dry-run" if isinstance(outcome, DryRun) else f"{command}:outcome"
    if len(own) > LONGEST_TEXT:
        own = f"{sha256(command.encode()).hexdigest()}:outcome"
    message: dict[str, Any] = {
        "specversion": "1.0",
        "id": own,
        "source": CLOUD_EVENTS.source,
        "type": TYPE,
        "time": (time or datetime.now(UTC)).isoformat(),
        "datacontenttype": "application/json",
        "correlationid": metadata.correlation_id if metadata else entry_id,
        "causationid": command,
        "data": {"command": command, **_how_it_ended(outcome)},
    }
    return to_json(message)


def _how_it_ended(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, DryRun):
        events = [CLOUD_EVENTS.bare(recorded.event) for recorded in outcome.events]
        return {"dry_run": True, **_result_or_refusal(outcome), "events": events}
    return _result_or_refusal(outcome)


def _result_or_refusal(outcome: Outcome) -> dict[str, Any]:
    refusal = outcome.refusal
    if refusal is None:
        return {"result": outcome.result}
    name = wire_names.INVALID_VALUES if isinstance(refusal, UnreadableMessage) else wire_names.INTERNAL_ERROR
    if isinstance(refusal, DomainError):
        name = wire_names.problem_name(type(refusal))
    elif isinstance(refusal, MessageIdReused):
        name = wire_names.IDEMPOTENCY_KEY_REUSED
    return {"refused": wire_names.problem_type(name), "because": str(refusal)}
