"""Records what comes due by itself: holds that have run out, batches that are overdue or expired.

By the clock of the database it counts at once, whoever runs or does not; here it is recorded, and those who wait are
served. Any number of these may run: who comes second finds nothing due.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from allocation.bootstrap import Service
from allocation.domain.commands import ApplyDueDates
from messaging.envelope import Metadata
from messaging.loops import StatusLog, repeat

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds, when nothing more is due."""

REST = 10.0
"""Seconds for which a SKU is left alone of which something could not be recorded."""

AT_ONCE = 500


@dataclass
class Clock:
    service: Service
    now: Callable[[], float] = time.monotonic
    _resting: dict[str, float] = field(default_factory=dict)

    def run(self, stop: Event) -> None:
        repeat(lambda: self.tick(stop), stop, StatusLog(log), "the clock", 0.1)

    def tick(self, stop: Event) -> float:
        """Record what is due, the first first, and return how many seconds to wait. A SKU of which something can't be
        recorded holds up no other for long: it is left alone for a while, and once the others had their turn this
        raises what the first of them failed with."""
        self._resting = {sku: until for sku, until in self._resting.items() if until > self.now()}
        found = self.service.views.due(AT_ONCE, list(self._resting))
        failed: list[Exception] = []
        for due in found:
            if stop.is_set():
                break
            try:
                self.service.bus.handle(ApplyDueDates(due.sku, due.refs), Metadata.first("clock"))
            except Exception as error:  # noqa: BLE001 - it is raised when the others had their turn
                self._resting[due.sku] = self.now() + REST
                failed.append(error)
        if failed:
            raise failed[0]
        return 0.0 if sum(len(due.refs) or 1 for due in found) >= AT_ONCE else PAUSE
