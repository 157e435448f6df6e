"""Tells the world over Redis: every event in a stream, and allocations over pub/sub too, as the book has it."""

from __future__ import annotations

import json
from dataclasses import asdict

from allocation.adapters.redis_channels import LINE_ALLOCATED
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.domain.events import Allocated, Event
from messaging.envelope import Delivery, Recorded
from messaging.redis.event_stream import EventStream, News


class RedisEventPublisher:
    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    def publish(self, delivery: Delivery[Event]) -> None:
        """Append to the stream `allocation.events`; publish an allocation on the channel `line_allocated`, which
        reaches only those who listen at that moment."""
        recorded = delivery.recorded
        news = News(
            subject=recorded.stream,
            token=delivery.token,
            after=delivery.after,
            version=recorded.version,
            body=CLOUD_EVENTS.encode(recorded),
            channel=LINE_ALLOCATED if isinstance(recorded.event, Allocated) else "",
            message=_message(recorded) if isinstance(recorded.event, Allocated) else b"",
        )
        self._stream.tell(news)


def _message(recorded: Recorded[Event]) -> bytes:
    """The book's shape, and more."""
    metadata = asdict(recorded.metadata) | {"time": recorded.metadata.time.isoformat()}
    return json.dumps(asdict(recorded.event) | {"metadata": metadata}, ensure_ascii=False).encode()
