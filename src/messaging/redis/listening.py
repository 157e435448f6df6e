"""A pub/sub channel that one process after another listens to, so that of each message somebody knows whose it is.

Pub/sub brings a message to all who listen, and tells nobody who they are. So whoever begins to listen says so on a
channel beside it. Redis brings both in one order: who listened before learns which messages came while nobody else
listened, and that all later ones are another's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import redis

_ANSWER = 2.0
"""Seconds for Redis to confirm a subscription, or to bring us what we published ourselves."""

Heard: TypeAlias = tuple[Literal["message", "ours", "another"], bytes]
_ANOTHER: Heard = "another", b""


class Superseded(Exception):
    """Another has begun to listen, or the subscription was broken, so that one may have."""


class Listening:
    """A subscription. What is published from its beginning on is heard. All of it raises redis.RedisError."""

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._beginnings = beginnings_of(channel, client.get_connection_kwargs().get("db") or 0)
        self._us = uuid4().hex
        self._kept: deque[Heard] = deque()
        self._pubsub = client.pubsub()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Listening:
        try:
            self._pubsub.subscribe(self._channel, self._beginnings)
            self._await_confirmation()
        except BaseException:
            self._pubsub.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pubsub.close()

    @property
    def has_kept_some(self) -> bool:
        """Whether something was heard that `next` has not given yet."""
        return bool(self._kept)

    def begin(self) -> None:
        """Tell who listened before that what is published from now on is ours; what was until now is theirs, if anybody
        still hears it."""
        word, hearers = self._say_so()
        until_now = [*self._kept, *self._hear_until(word)]
        self._kept = deque(heard for heard in until_now if hearers == 1 or heard == _ANOTHER)

    def next(self, wait: float) -> bytes | None:
        """The next message; None if within so many seconds there is none. Raises Superseded instead of any that is
        another's."""
        heard = self._kept.popleft() if self._kept else self._read(wait)
        if heard == _ANOTHER:
            raise Superseded
        return heard[1] if heard and heard[0] == "message" else None

    def has_been_superseded(self) -> bool:
        """Whether another has begun to listen by now, or may have."""
        self.hear_out()
        return _ANOTHER in self._kept

    def hear_out(self) -> None:
        """Keep for `next` what was published until now; where Redis does not bring it, another seems to have begun."""
        try:
            word, _ = self._say_so()
            self._kept.extend(self._hear_until(word))
        except redis.RedisError:
            self._kept.append(_ANOTHER)

    def _await_confirmation(self) -> None:
        """What is published before Redis has confirmed both is perhaps not heard."""
        missing, give_up = 2, time.monotonic() + _ANSWER
        while missing:
            if time.monotonic() > give_up:
                raise redis.TimeoutError("redis does not confirm the subscription")
            found = self._pubsub.get_message(timeout=_ANSWER)
            if found and found["type"] == "subscribe":
                missing -= 1
            elif found:
                self._kept.append(self._meaning(found))

    def _say_so(self) -> tuple[Heard, int]:
        """What is to be heard of it, and by how many."""
        word = f"{self._us} {uuid4().hex}".encode()
        return ("ours", word), int(self._client.publish(self._beginnings, word))

    def _hear_until(self, word: Heard) -> Iterator[Heard]:
        give_up = time.monotonic() + _ANSWER
        while (heard := self._read(_ANSWER)) != word:
            if heard:
                yield heard
            if time.monotonic() > give_up:
                raise redis.TimeoutError("redis does not bring what we say")

    def _read(self, wait: float) -> Heard | None:
        found = self._pubsub.get_message(timeout=wait)
        return self._meaning(found) if found else None

    def _meaning(self, found: dict[str, Any]) -> Heard:
        if found["type"] != "message":  # subscribed anew, by the client itself: something may have been missed
            return _ANOTHER
        if found["channel"] == self._channel.encode():
            return "message", found["data"]
        return ("ours", found["data"]) if found["data"].startswith(self._us.encode()) else _ANOTHER


def beginnings_of(channel: str, number: int) -> str:
    """Where a listener says that it listens. A channel is the same in all databases of a Redis; who listens for one is
    nobody's successor in another."""
    return f"{channel}.listener.{number}"
