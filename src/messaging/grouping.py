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
class _Place(Generic[Asked, Answer]):
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
        self._queues: dict[str, deque[_Place[Asked, Answer]]] = {}  # by stream; the first place has its turn

    def run(self, stream: str, asked: Asked) -> Answer:
        """The answer, as if it had been asked alone."""
        place: _Place[Asked, Answer] = _Place(asked)
        with self._lock:
            queue = self._queues.setdefault(stream, deque())
            queue.append(place)
            first = len(queue) == 1
        if not first:
            place.called.wait()
        if not place.served:
            self._take_turn(stream, queue)
        if place.error:
            raise place.error
        assert place.served, "whoever is called was served, or served itself"
        return place.answer  # type: ignore[return-value]  # None is an answer too

    def _take_turn(self, stream: str, queue: deque[_Place[Asked, Answer]]) -> None:
        """Serve the first places of the queue, ours among them, and call the next one."""
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
            for place in group:
                place.called.set()

    def _serve(self, group: Sequence[_Place[Asked, Answer]]) -> None:
        try:
            answers = self._run_together([place.asked for place in group])
        except BaseException as error:  # noqa: BLE001 - it is raised again by each whose it is
            alone_would_not_help = isinstance(error, Unavailable) or not isinstance(error, Exception)
            if len(group) == 1 or alone_would_not_help:
                for place in group:
                    place.fail(error)
            else:  # one of them is at fault: let the others not suffer for it
                for place in group:
                    self._serve([place])
        else:
            for place, answer in zip(group, answers, strict=True):
                place.serve(answer)
