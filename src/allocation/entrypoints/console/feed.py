"""What happens while somebody looks: the newest events, by a stream for a few and by asking again for all others.

A stream holds one of the worker's threads. So there are few of them, they end by themselves, and they end at once when
the worker is to end; a page that gets none asks every few seconds instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from threading import Event as Flag
from threading import Lock
from typing import Any

from allocation.adapters.wire_names import CODEC
from allocation.entrypoints.console.sentences import mark_of, sentence_of
from messaging.errors import Unavailable, UnreadableMessage
from messaging.sql.log_reader import LoggedEvent

NEWEST = 30
"""A page shows so many, and never catches up with more."""

MOST_STREAMS = 2
"""At the same time, in one process."""

LONGEST_STREAM = 300.0
"""Seconds; the browser comes again."""

BETWEEN_LOOKS = 1.0
"""Seconds."""


class Streams:
    """How many are open in this process, and the end of them all. Threads may share it."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._free = most
        self._lock = Lock()
        self._ended = Flag()

    def allow(self, most: int) -> None:
        """Before the first one is opened."""
        self._free = min(most, MOST_STREAMS)

    def enter(self) -> bool:
        """Whether there is room for one more; then it must `leave`."""
        with self._lock:
            if self._free <= 0 or self._ended.is_set():
                return False
            self._free -= 1
            return True

    def have_room(self) -> bool:
        """At this moment."""
        return self._free > 0 and not self._ended.is_set()

    def leave(self) -> None:
        with self._lock:
            self._free += 1

    def end(self) -> None:
        """End all that are open, and let no more be opened."""
        self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Whether to go on after so long."""
        return not self._ended.wait(seconds)


def shown(entry: LoggedEvent) -> dict[str, Any]:
    """An event as the page's script takes it."""
    try:
        event: Any = CODEC.decode(entry.type, entry.data)
    except UnreadableMessage:
        event = None
    kind, label = mark_of(event)
    return {
        "id": entry.id,
        "time": entry.time.isoformat(timespec="seconds"),
        "kind": kind,
        "label": label,
        "words": [asdict(piece) for piece in sentence_of(event, entry.type)],
    }


def newer(entries: Sequence[LoggedEvent], seen: str | None) -> Sequence[LoggedEvent]:
    """Those behind the one that was seen last; all of them if that is not among them. The oldest come first."""
    for number, entry in enumerate(entries):
        if entry.id == seen:
            return entries[number + 1 :]
    return entries


def stream(
    latest: Callable[[int], Sequence[LoggedEvent]],
    seen: str | None,
    go_on: Callable[[float], bool],
    may_see: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """Server-sent events, until somebody ends it: the clock, the worker, the lack of a database, or a lost right."""
    end = clock() + LONGEST_STREAM
    try:
        while may_see() and clock() < end:
            for entry in newer(latest(NEWEST), seen):
                seen = entry.id
                yield f"id: {seen}\nevent: happened\ndata: {json.dumps(shown(entry), ensure_ascii=False)}\n\n"
            yield ": here\n\n"  # else nobody would notice that the other side has gone
            if not go_on(BETWEEN_LOOKS):
                return
    except Unavailable:
        return
