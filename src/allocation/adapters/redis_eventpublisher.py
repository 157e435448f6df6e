"""Publishes over Redis: every event in a stream, and allocations over pub/sub too, as the book has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from pydantic_core import to_json

from allocation.adapters.redis_channels import LINE_ALLOCATED
from allocation.adapters.wire_names import CLOUD_EVENTS, CODEC
from allocation.domain.events import Allocated, Event
from messaging.cloud_events import CloudEvents
from messaging.envelope import Delivery, Recorded
from messaging.redis.event_stream import Append, EventStream, StreamEvent

LINE_ALLOCATED_FIELDS = ("orderid", "sku", "qty", "batchref", "lineid")


class RedisEventPublisher:
    def __init__(self, stream: EventStream, cloud_events: CloudEvents = CLOUD_EVENTS) -> None:
        self._stream = stream
        self._cloud_events = cloud_events

    def publish(self, deliveries: Sequence[Delivery[Event]]) -> Mapping[str, Exception]:
        """Append to the stream `allocation.events`; publish allocations on the channel `line_allocated`, which reaches
        only those who listen at that moment."""
        by_subject = groupby(deliveries, key=lambda delivery: delivery.recorded.stream)
        return self._stream.append([self._append_of(list(of_one_subject)) for _, of_one_subject in by_subject])

    def _append_of(self, deliveries: Sequence[Delivery[Event]]) -> Append:
        first, last = deliveries[0], deliveries[-1]
        return Append(
            subject=first.recorded.stream,
            token=first.token,
            after=first.after,
            version=last.recorded.version,
            entries=[self._entry(delivery.recorded) for delivery in deliveries],
        )

    def _entry(self, recorded: Recorded[Event]) -> StreamEvent:
        body = self._cloud_events.encode(recorded)
        return (
            StreamEvent(recorded.version, body, LINE_ALLOCATED, line_allocated_message(recorded))
            if isinstance(recorded.event, Allocated)
            else StreamEvent(recorded.version, body)
        )


def line_allocated_message(recorded: Recorded[Event]) -> bytes:
    """The message on `line_allocated`: the book's shape, and more."""
    _, fields = CODEC.encode(recorded.event)
    message: dict[str, Any] = {name: fields[name] for name in LINE_ALLOCATED_FIELDS}
    metadata = recorded.metadata
    message["metadata"] = {
        "id": metadata.id,
        "correlation_id": metadata.correlation_id,
        "causation_id": metadata.causation_id,
        "source": metadata.source,
        "time": metadata.time.isoformat(),
        "principal": metadata.principal,
    }
    return to_json(message)
