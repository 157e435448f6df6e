"""Leader election: of several processes one at a time is the leader and works; the others stand by."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event

from allocation.service_layer.ports import UnitOfWork
from messaging.errors import Unavailable
from messaging.loops import StatusLog
from messaging.sql.exclusive import ExclusiveBus, Occupied

AWAY = "the database or redis is away"

_LOOK_AGAIN = 0.5


def run_as_leader(
    bus: ExclusiveBus[UnitOfWork], place: str, work: Callable[[], None], stop: Event, status: StatusLog
) -> None:
    """Work whenever this process is the leader, until stopped, whatever happens."""
    try:
        while not stop.is_set():
            try:
                if bus.is_ours():
                    work()
                    continue
                status(logging.INFO, f"standing by; another consumer has {place}")
            except Occupied:
                status(logging.WARNING, f"another consumer has {place} now")
            except Unavailable as error:
                status(logging.WARNING, AWAY, error=str(error))
            except Exception as error:  # noqa: BLE001 - it is logged, and the work goes on
                status.fault(f"the work at {place} failed, and goes on", error)
            stop.wait(_LOOK_AGAIN)
    finally:
        bus.close()  # lets go of it at once, whatever else this process is still at
