"""The channels and streams, and each message on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from inspect import getdoc
from typing import Literal, TypeAlias, get_args

from allocation.adapters import redis_channels
from allocation.adapters.redis_eventpublisher import line_allocated_message
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.catalogue import descriptions, schemas
from allocation.domain import commands, events
from allocation.validation import CHANGE_BATCH_QUANTITY, SCHEMAS
from messaging.codec import JsonObject
from messaging.envelope import Metadata, Recorded

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


EVENT_STREAM = Channel(redis_channels.EVENTS, SENT, descriptions.EVENT_STREAM, field="event")
COMMAND_STREAM = Channel(redis_channels.COMMANDS, ACCEPTED, descriptions.COMMAND_STREAM, field="command")
LINE_ALLOCATED = Channel(redis_channels.LINE_ALLOCATED, SENT, descriptions.LINE_ALLOCATED)
BATCH_QUANTITY = Channel(redis_channels.CHANGE_BATCH_QUANTITY, ACCEPTED, descriptions.CHANGE_BATCH_QUANTITY)

# A small history of one SKU, whose events are the examples.
_HISTORY: list[events.Event] = [
    events.BatchCreated("batch-1", "RED-CHAIR", 20, date(2031, 1, 1)),
    events.Allocated("order-1", "RED-CHAIR", 12, "batch-1", "line-1"),
    events.BatchQuantityChanged("batch-1", "RED-CHAIR", 10),
    events.Deallocated("order-1", "RED-CHAIR", 12, "batch-1", "line-1"),
    events.OutOfStock("order-1", "RED-CHAIR", 12, "line-1"),
]
_ASKED: dict[type, JsonObject] = {
    commands.CreateBatch: {"ref": "batch-1", "sku": "RED-CHAIR", "qty": 20, "eta": "2031-01-01"},
    commands.Allocate: {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 12, "lineid": "line-1"},
    commands.ChangeBatchQuantity: {"batchref": "batch-1", "qty": 10},
}


@cache
def messages() -> tuple[Message, ...]:
    """All that is said today, channel by channel."""
    return (*_events(), *_commands(), _line_allocated(), _batch_quantity())


def _events() -> list[Message]:
    return [_event(_example(kind)) for kind in get_args(events.Event)]


def _event(example: Recorded[events.Event]) -> Message:
    kind = type(example.event)
    return Message(
        name=CLOUD_EVENTS.type_of(kind),
        channel=EVENT_STREAM,
        says=getdoc(kind) or "",
        when=descriptions.WHEN[kind],
        schema=schemas.event(kind),
        example=json.loads(CLOUD_EVENTS.encode(example)),
    )


def _commands() -> list[Message]:
    return [
        Message(
            name=name,
            channel=COMMAND_STREAM,
            says=descriptions.ASKS[schema.kind],
            when=descriptions.WHEN[schema.kind],
            schema=schemas.command(name, schema),
            example={
                "specversion": "1.0",
                "id": f"message-{number}",
                "source": "/shop",
                "type": name,
                "correlationid": "request-1",
                "data": _ASKED[schema.kind],
            },
        )
        for number, (name, schema) in enumerate(SCHEMAS.items(), start=1)
    ]


def _line_allocated() -> Message:
    return Message(
        name=LINE_ALLOCATED.address,
        channel=LINE_ALLOCATED,
        says=getdoc(events.Allocated) or "",
        when=descriptions.WHEN[events.Allocated],
        schema=schemas.line_allocated(),
        example=json.loads(line_allocated_message(_example(events.Allocated))),
    )


def _batch_quantity() -> Message:
    kind = commands.ChangeBatchQuantity
    return Message(
        name=BATCH_QUANTITY.address,
        channel=BATCH_QUANTITY,
        says=descriptions.ASKS[kind],
        when=descriptions.WHEN[kind],
        schema=schemas.fields(CHANGE_BATCH_QUANTITY),
        example=_ASKED[kind],
    )


def _example(kind: type) -> Recorded[events.Event]:
    version, event = next((number, one) for number, one in enumerate(_HISTORY, start=1) if type(one) is kind)
    moment = datetime(2026, 1, 2, 3, 4, version, 678901, tzinfo=UTC)
    request = Metadata("00000000-0000-4000-8000-000000000000", "request-1", None, "http", moment)
    own = f"00000000-0000-4000-8000-{version:012}"
    return Recorded("RED-CHAIR", version, event, replace(request, id=own, causation_id=request.id))


def by_channel() -> Mapping[Channel, list[Message]]:
    found: dict[Channel, list[Message]] = {}
    for message in messages():
        found.setdefault(message.channel, []).append(message)
    return found
