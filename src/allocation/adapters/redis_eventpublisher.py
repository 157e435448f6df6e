"""Tells the world over Redis."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import redis

from allocation.domain.events import Allocated
from messaging.envelope import Metadata, Recorded
from messaging.errors import Unavailable

LINE_ALLOCATED = "line_allocated"


class RedisEventPublisher:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def line_allocated(self, recorded: Recorded[Allocated]) -> None:
        """Publish on the channel `line_allocated`. Pub/sub reaches only those who listen at that moment."""
        body = asdict(recorded.event) | {"metadata": _public(recorded.metadata)}
        try:
            self._client.publish(LINE_ALLOCATED, json.dumps(body, ensure_ascii=False))
        except redis.RedisError as error:
            raise Unavailable(f"redis: {error}") from error


def _public(metadata: Metadata) -> dict[str, Any]:
    return asdict(metadata) | {"time": metadata.time.isoformat()}


def redis_client(url: str) -> redis.Redis:
    """A client that fails within seconds rather than hang, and leaves retrying to those who know what is safe."""
    return redis.Redis.from_url(
        url,
        decode_responses=False,  # a channel may carry bytes that are no text, and must not break on them
        socket_connect_timeout=2.0,
        socket_timeout=5.0,
        socket_keepalive=True,
        health_check_interval=15,
    )
