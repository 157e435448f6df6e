"""A place that one process at a time has: who has it works, all others stand by, and how it stands is in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from allocation.service_layer.ports import UnitOfWork
from messaging.errors import Unavailable
from messaging.sql.exclusive import ExclusiveBus, Occupied

AWAY = "the database or redis is away"

_LOOK_AGAIN = 0.5


@dataclass(slots=True)
class Standing:
    """Said when it changes, however often it is found out."""

    log: logging.Logger
    _said: str = ""

    def __call__(self, level: int, words: str, **extra: object) -> None:
        """Says the words unless they were said last."""
        if words != self._said:
            self._said = words
            self.log.log(level, words, extra=extra)


def work_while_ours(
    bus: ExclusiveBus[UnitOfWork], place: str, work: Callable[[], None], stop: Event, stands: Standing
) -> None:
    """Work whenever the bus is ours, until told to stop, whatever happens."""
    try:
        while not stop.is_set():
            try:
                if bus.is_ours():
                    work()
                    continue
                stands(logging.INFO, f"standing by; another consumer has {place}")
            except Occupied:
                stands(logging.WARNING, f"another consumer has {place} now")
            except Unavailable as error:
                stands(logging.WARNING, AWAY, error=str(error))
            except Exception:
                stands.log.exception(f"the work at {place} failed, and goes on")
            stop.wait(_LOOK_AGAIN)
    finally:
        bus.close()  # lets go of it at once, whatever else this process is still at
