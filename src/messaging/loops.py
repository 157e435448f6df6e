"""Loops of long-lived tasks: they go on whatever happens, and log what has changed once, however often it is met."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from messaging.errors import MessagingError


@dataclass(slots=True)
class StatusLog:
    """Logs a status when it changes. `about` goes with each line."""

    log: logging.Logger
    about: dict[str, object] = field(default_factory=dict)
    _last: str = field(default="", init=False)

    def __call__(self, level: int, status: str, **extra: object) -> None:
        if self._changes_to(f"{status} {extra.get('error', '')}"):
            self.log.log(level, status, extra=self.about | extra)

    def fault(self, status: str, error: Exception) -> None:
        """With the traceback, once for each kind of error."""
        if self._changes_to(f"{status} {error!r}"):
            self.log.exception(status, extra=self.about | {"error": repr(error)})

    def clear(self) -> None:
        """Whatever comes next is a change."""
        self._last = ""

    def _changes_to(self, status: str) -> bool:
        has_changed = status != self._last
        self._last = status
        return has_changed


def repeat(step: Callable[[], float], stop: Event, status: StatusLog, name: str, otherwise: float) -> None:
    """Call `step` until stopped. It returns how many seconds to wait then; after one that failed, `otherwise`."""
    while not stop.is_set():
        try:
            pause = step()
            status.clear()
        except MessagingError as error:
            status(logging.WARNING, f"{name} must wait", error=str(error))
            pause = otherwise
        except Exception as error:  # noqa: BLE001 - it is logged, and the task goes on
            status.fault(f"{name} failed, and goes on", error)
            pause = otherwise
        if pause:
            stop.wait(pause)
