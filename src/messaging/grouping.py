"""Commands of one stream that wait at the same time run together in one transaction.

Writers of one stream only lose to each other; one writer that carries the others' commands loses to nobody in its
process. A command that finds nobody at its stream runs at once and alone, so grouping costs nothing without
contention. Commands run in the order in which they came, each with its own outcome, at most `most` together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Generic, TypeVar

from messaging.errors import Unavailable

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Waiter(Generic[Asked, Answer]):
    """A place in the queue of a stream. When `called`, there is an answer or an error, or it is this one's turn."""

    asked: Asked
    called: Event = field(default_factory=Event)
    answer: Answer | None = None
    error: BaseException | None = None
    served: bool = False

    def serve(self, answer: Answer) -> None:
        self.answer, self.served = answer, True

    def fail(self, error: BaseException) -> None:
        self.error, self.served = error, True


class Groups(Generic[Asked, Answer]):
    """`run_together` answers several at once, in their order, or raises for all of them."""

    def __init__(self, run_together: Callable[[Sequence[Asked]], Sequence[Answer]], most: int = 50) -> None:
        self._run_together = run_together
        self._most = most
        self._lock = Lock()
        self._queues: dict[str, deque[_Waiter[Asked, Answer]]] = {}  # by stream; the first has its turn

    def run(self, stream: str, asked: Asked) -> Answer:
        """The answer, as if it had been asked alone."""
        waiter: _Waiter[Asked, Answer] = _Waiter(asked)
        with self._lock:
            queue = self._queues.setdefault(stream, deque())
            queue.append(waiter)
            first = len(queue) == 1
        if not first:
            waiter.called.wait()
        if not waiter.served:
            self._take_turn(stream, queue)
        if waiter.error:
            raise waiter.error
        assert waiter.served, "whoever is called was served, or served itself"
        return waiter.answer  # type: ignore[return-value]  # None is an answer too

    def _take_turn(self, stream: str, queue: deque[_Waiter[Asked, Answer]]) -> None:
        """Serve the first of the queue, us among them, and call the next one."""
        with self._lock:
            group = [queue[number] for number in range(min(len(queue), self._most))]
        try:
            self._serve(group)
        finally:
            with self._lock:
                for _ in group:
                    queue.popleft()
                if queue:
                    queue[0].called.set()
                else:
                    del self._queues[stream]
            for waiter in group:
                waiter.called.set()

    def _serve(self, group: Sequence[_Waiter[Asked, Answer]]) -> None:
        try:
            answers = self._run_together([waiter.asked for waiter in group])
        except BaseException as error:  # noqa: BLE001 - it is raised again by each whose it is
            alone_would_not_help = isinstance(error, Unavailable) or not isinstance(error, Exception)
            if len(group) == 1 or alone_would_not_help:
                for waiter in group:
                    waiter.fail(error)
            else:  # one of them is at fault: let the others not suffer for it
                for waiter in group:
                    self._serve([waiter])
        else:
            for waiter, answer in zip(group, answers, strict=True):
                waiter.serve(answer)
