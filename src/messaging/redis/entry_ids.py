"""Ids of entries in a stream, `MILLISECONDS-NUMBER` by the clock of Redis."""

from __future__ import annotations

from datetime import timedelta

import redis


def order_of(entry_id: bytes | str) -> tuple[int, int]:
    """Sorts as Redis does."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    moment, _, number = text.partition("-")
    return int(moment), int(number)


def oldest_kept(client: redis.Redis, keep: timedelta) -> int:
    """The milliseconds with which the id of the oldest entry begins that is not older than `keep`."""
    seconds, _ = client.time()
    return int(seconds - keep.total_seconds()) * 1000
