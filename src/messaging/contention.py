"""Remembers for a moment which streams writers have met at, so that the next ones queue up instead of meeting again.

Losing costs a transaction, queueing a lock. Nobody knows beforehand which streams are hot, but whoever lost does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_MOST = 10_000


@dataclass(slots=True)
class Contention:
    """`fresh`: for so many seconds. Threads may share it."""

    fresh: float = 1.0
    clock: Callable[[], float] = time.monotonic
    _until: dict[str, float] = field(default_factory=dict, init=False)

    def note(self, streams: Iterable[str]) -> None:
        """Somebody has just lost there."""
        if len(self._until) > _MOST:  # none of it is needed to be right
            self._until.clear()
        self._until.update(dict.fromkeys(streams, self.clock() + self.fresh))

    def is_fresh(self, streams: Iterable[str]) -> bool:
        """Whether somebody has, at any of them, a moment ago."""
        if not self._until:
            return False
        now = self.clock()
        return any(self._until.get(stream, now) > now for stream in streams)
