"""How many requests a second each key may send to this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

BURST = 1.0
"""Seconds' worth of requests that may come at once."""

_NOTHING = 1e-6  # seconds; sums of fractions are not exact


@dataclass(slots=True)
class Rates:
    """The generic cell rate algorithm of ITU-T I.371: for each key the moment from which it has its whole burst again.

    Threads may share it.
    """

    clock: Callable[[], float] = time.monotonic
    _paid_back: dict[str, float] = field(default_factory=dict, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def wait(self, name: str, per_second: float) -> float:
        """0 when the request may come in, and is counted; else how many seconds to wait, and it is not."""
        now = self.clock()
        with self._lock:
            paid_back = max(self._paid_back.get(name, now), now) + 1 / per_second
            too_early = paid_back - now - BURST
            if too_early > _NOTHING:
                return too_early
            self._paid_back[name] = paid_back
        return 0.0
