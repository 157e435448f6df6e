"""The channels and streams, and each message on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from inspect import getdoc
from typing import Any, Literal, TypeAlias

from allocation.adapters import outcome_messages, redis_channels
from allocation.adapters.redis_channels import COMMAND_FIELD
from allocation.adapters.redis_eventpublisher import line_allocated_message
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.catalogue import descriptions, schemas
from allocation.domain import events
from allocation.domain.errors import OrderIsCancelled
from allocation.service_layer.messages import COMMANDS, EVENTS, ordering, stock
from allocation.service_layer.messages.table import EventRow
from messaging.codec import JsonObject
from messaging.envelope import Metadata, Outcome, Recorded
from messaging.redis.event_stream import FIELD

Direction: TypeAlias = Literal["sent", "accepted"]
SENT: Direction = "sent"
ACCEPTED: Direction = "accepted"


@dataclass(frozen=True, slots=True)
class Channel:
    """A Redis stream whose entries have the message in one `field`, or without one a pub/sub channel."""

    address: str
    direction: Direction
    promises: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """`name` is its type in the stream, or the channel's own name; never two shapes under one. `says` and `when` are
    for people."""

    name: str
    channel: Channel
    says: str
    when: str
    schema: JsonObject
    example: JsonObject


EVENT_STREAM = Channel(redis_channels.EVENTS, SENT, descriptions.EVENT_STREAM, FIELD)
COMMAND_STREAM = Channel(redis_channels.COMMANDS, ACCEPTED, descriptions.COMMAND_STREAM, COMMAND_FIELD)
REPLIES = Channel(redis_channels.REPLIES, SENT, descriptions.REPLIES, FIELD)
LINE_ALLOCATED = Channel(redis_channels.LINE_ALLOCATED, SENT, descriptions.LINE_ALLOCATED)
BATCH_QUANTITY = Channel(redis_channels.CHANGE_BATCH_QUANTITY, ACCEPTED, descriptions.CHANGE_BATCH_QUANTITY)


_NUMBERS = {
    "batch_created.v1": 1,
    "allocated.v1": 2,
    "batch_quantity_changed.v1": 3,
    "deallocated.v1": 4,
    "out_of_stock.v1": 5,
    "allocation.create_batch.v1": 1,
    "allocation.allocate.v1": 2,
    "allocation.change_batch_quantity.v1": 3,
}
"""In the examples that are published, which never change; those of later messages have 1."""


@cache
def messages() -> tuple[Message, ...]:
    """Those of today, channel by channel."""
    return (*_events(), *_commands(), _outcome(), _line_allocated(), _batch_quantity())


def _events() -> list[Message]:
    return [
        Message(
            name=CLOUD_EVENTS.type_of(row.kind),
            channel=EVENT_STREAM,
            says=" ".join((getdoc(row.kind) or "").split()),
            when=row.when,
            schema=schemas.event(row),
            example=json.loads(CLOUD_EVENTS.encode(_recorded(row))),
        )
        for row in EVENTS
    ]


def _commands() -> list[Message]:
    return [
        Message(
            name=row.name,
            channel=COMMAND_STREAM,
            says=row.asks,
            when=row.gives,
            schema=schemas.command(row),
            example={
                "specversion": "1.0",
                "id": f"message-{_NUMBERS.get(row.name, 1)}",
                "source": "/shop",
                "type": row.name,
                "correlationid": "request-1",
                "data": dict(row.example),
            },
        )
        for row in COMMANDS
    ]


def _outcome() -> Message:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    command = Metadata("message-1", "request-1", None, "/shop", moment)
    refusal = OrderIsCancelled("order-1")
    return Message(
        name=outcome_messages.TYPE,
        channel=REPLIES,
        says="How a command has ended.",
        when="A command from the stream was handled, or could not be read, and its entry has a field `replyto`.",
        schema=schemas.outcome(),
        example=json.loads(outcome_messages.outcome_message("1-1", command, Outcome(refusal=refusal), moment)),
    )


def _line_allocated() -> Message:
    row = ordering.ALLOCATED
    return Message(
        name=LINE_ALLOCATED.address,
        channel=LINE_ALLOCATED,
        says=" ".join((getdoc(row.kind) or "").split()),
        when=row.when,
        schema=schemas.line_allocated(),
        example=json.loads(line_allocated_message(_recorded(row))),
    )


def _batch_quantity() -> Message:
    row = stock.CHANGE_BATCH_QUANTITY
    return Message(
        name=BATCH_QUANTITY.address,
        channel=BATCH_QUANTITY,
        says=row.asks,
        when=row.gives,
        schema=schemas.fields(row),
        example=dict(row.example),
    )


def _recorded(row: EventRow[Any]) -> Recorded[events.Event]:
    """Its example, as if its number were its version."""
    version = _NUMBERS.get(row.name, 1)
    moment = datetime(2026, 1, 2, 3, 4, version, 678901, tzinfo=UTC)
    request = Metadata("00000000-0000-4000-8000-000000000000", "request-1", None, "http", moment)
    own = f"00000000-0000-4000-8000-{version:012}"
    return Recorded("RED-CHAIR", version, row.example, replace(request, id=own, causation_id=request.id))


def by_channel() -> Mapping[Channel, list[Message]]:
    found: dict[Channel, list[Message]] = {}
    for message in messages():
        found.setdefault(message.channel, []).append(message)
    return found
