"""Records what comes due by itself: holds that have run out, batches that are overdue or expired.

By the clock of the database it counts at once, whoever runs or does not; here it is recorded, and those who wait are
served. Any number of these may run: who comes second finds nothing due.
"""

from __future__ import annotations

import logging
from threading import Event

from allocation.bootstrap import Service
from allocation.domain.commands import ApplyDueDates
from messaging.envelope import Metadata
from messaging.loops import StatusLog, repeat

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds, when nothing more is due."""

AT_ONCE = 500


def run(service: Service, stop: Event) -> None:
    repeat(lambda: tick(service, stop), stop, StatusLog(log), "the clock", PAUSE)


def tick(service: Service, stop: Event) -> float:
    """Record what is due, the first first, and return how many seconds to wait. What can't be recorded of one SKU holds
    up no other; raises what the first of those failed with."""
    found = service.views.due(AT_ONCE)
    faults: list[Exception] = []
    for due in found:
        if stop.is_set():
            break
        try:
            service.bus.handle(ApplyDueDates(due.sku, due.refs), Metadata.first("clock"))
        except Exception as error:  # noqa: BLE001 - raised below
            faults.append(error)
    if faults:
        raise faults[0]
    return 0.0 if sum(len(due.refs) or 1 for due in found) >= AT_ONCE else PAUSE
