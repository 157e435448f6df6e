"""How far a consumer group is behind its stream: for people and gauges. It changes nothing and reads little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from messaging.redis.client import redis_faults
from messaging.redis.entry_ids import order_of

_MOST_COUNTED = 1_000
"""Entries, where the server keeps no count: before Redis 7, or when some were deleted from the middle."""

_NEW = {"pending": 0, "last-delivered-id": b"0-0"}


@dataclass(frozen=True, slots=True)
class Lag:
    """`unread`: entries that nobody has read yet; `pending`: read, and not acknowledged; `oldest`: seconds since the
    oldest of both was sent; `readers`: the consumers at work. `is_complete`: `unread` is all there is, not just the
    first thousand."""

    unread: int
    pending: int
    oldest: float | None
    readers: tuple[str, ...] = ()
    is_complete: bool = True


def lag_of(client: redis.Redis, stream: str, group: str) -> Lag:
    """A group that is not there yet has read nothing. Raises Unavailable."""
    with redis_faults():
        if not client.exists(stream):
            return Lag(0, 0, None)
        found = [one for one in client.xinfo_groups(stream) if one["name"] == group.encode()]
        ours: Mapping[str, Any] = found[0] if found else {**_NEW, "lag": client.xlen(stream)}
        consumers = client.xinfo_consumers(stream, group) if found else []
        unread, is_complete = _unread(client, stream, ours)
        return Lag(
            unread=unread,
            pending=int(ours["pending"]),
            oldest=_oldest(client, stream, group, ours),
            readers=tuple(one["name"].decode() for one in consumers),
            is_complete=is_complete,
        )


def _unread(client: redis.Redis, stream: str, group: Mapping[str, Any]) -> tuple[int, bool]:
    if (lag := group.get("lag")) is not None:
        return int(lag), True
    some: Any = client.xrange(stream, min=b"(" + group["last-delivered-id"], count=_MOST_COUNTED)
    counted = len(some)
    return counted, counted < _MOST_COUNTED


def _oldest(client: redis.Redis, stream: str, group: str, ours: Mapping[str, Any]) -> float | None:
    first: Any = client.xrange(stream, min=b"(" + ours["last-delivered-id"], count=1)
    ids = [entry_id for entry_id, _ in first]
    if ours["pending"] and (pending := client.xpending(stream, group)["min"]):
        ids.append(pending)
    if not ids:
        return None
    seconds, microseconds = client.time()
    now = int(seconds) + int(microseconds) / 1_000_000
    return max(0.0, now - min(order_of(one)[0] for one in ids) / 1000)
