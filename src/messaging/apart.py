"""Commands that are long at work: one at a time in a process, with limits of their own, while others go on beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from messaging.envelope import DryRun, Metadata, Outcome
from messaging.errors import Unavailable
from messaging.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from messaging.bus import MessageBus

U = TypeVar("U", bound=UnitOfWork)


class Apart(Generic[U]):
    """`bus` has units of work with longer limits. Callers wait for `seconds` at most, and `most` of them at once;
    whoever comes on top of them gets Unavailable. A command that `is_long` comes here at once, another one
    when its unit of work has raised IsLong."""

    def __init__(
        self, is_long: Callable[[object], bool], bus: MessageBus[U], *, seconds: float = 30.0, most: int = 16
    ) -> None:
        self.is_long = is_long
        self._bus = bus
        self._seconds = seconds
        self._places = BoundedSemaphore(most)
        self._turn = Lock()

    def outcome(self, command: object, metadata: Metadata | None, message_id: str | None) -> Outcome:
        with self._our_turn():
            return self._bus.outcome(command, metadata, message_id)

    def dry_run(self, command: object, metadata: Metadata | None) -> DryRun:
        with self._our_turn():
            return self._bus.dry_run(command, metadata)

    @contextmanager
    def _our_turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Unavailable("too many commands wait that move many lines")
        try:
            if not self._turn.acquire(timeout=self._seconds):
                raise Unavailable(f"commands that move many lines were at work for {self._seconds:.0f} s")
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()
