"""Group commit: commands that wait at the same time share one transaction, whatever they are about.

A command that finds nobody waiting runs at once, in its own thread. While a transaction is in flight, others queue up;
when it ends, the first of the queue takes those behind it along. Each keeps its own answer.

Commands of one stream run in the order in which they came. A stream that is in flight, or that another process has
locked, holds up its own commands only: they are passed over. A stream for which processes contend has groups of its
own, so that nobody else waits for its lock; they don't count as in flight.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Generic, Protocol, TypeVar

from messaging.errors import ConflictRetriesExhausted, Unavailable

_MOST_AT_LOCKS = 4

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class RunTogether(Protocol[T_contra, R_co]):
    def __call__(self, group: Sequence[T_contra], /, *, wait: bool) -> Sequence[R_co]:
        """The answer to each; `left_out` for one whose stream is locked by another process, unless it may `wait` for
        the lock. What it raises counts for all of them."""
        ...


@dataclass(slots=True, eq=False)
class _Waiter(Generic[T, R]):
    """A place in the queue. When `called`, there is an answer or an error, or it leads the `group`."""

    item: T
    streams: Collection[str]
    waits_for_lock: bool = False
    called: Event = field(default_factory=Event)
    group: list[_Waiter[T, R]] = field(default_factory=list)
    is_done: bool = False
    answer: R | None = None
    error: BaseException | None = None


class Coalescer(Generic[T, R]):
    """`run_together` is called with at most `most` items, at most `at_once` times at once. `contended` tells whether
    processes have just met at a stream: for such, it is called a few times at once besides."""

    def __init__(
        self,
        run_together: RunTogether[T, R],
        left_out: R,
        contended: Callable[[Collection[str]], bool] = lambda _: False,
        *,
        at_once: int = 1,
        most: int = 50,
    ) -> None:
        self._run_together = run_together
        self._left_out = left_out
        self._contended = contended
        self._room = {False: at_once, True: _MOST_AT_LOCKS}  # by whether the group waits for a lock
        self._most = most
        self._lock = Lock()
        self._waiting: deque[_Waiter[T, R]] = deque()
        self._in_flight: set[str] = set()

    def run(self, streams: Collection[str], item: T) -> R:
        """The answer, as if it had been alone."""
        waiter: _Waiter[T, R] = _Waiter(item, streams)
        with self._lock:
            self._waiting.append(waiter)
            self._call_leaders()
        while True:
            waiter.called.wait()
            if not waiter.group:
                break
            waiter.called.clear()
            self._lead(waiter.group)
        if waiter.error:
            raise waiter.error
        return waiter.answer  # type: ignore[return-value]  # None is an answer too

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def _call_leaders(self) -> None:
        """Have the next groups begin, as many as there is room for. The caller has the lock."""
        while group := list(self._next_group()):
            self._room[group[0].waits_for_lock] -= 1
            for waiter in group:
                self._waiting.remove(waiter)
                self._in_flight.update(waiter.streams)
            group[0].group = group
            group[0].called.set()

    def _next_group(self) -> Iterator[_Waiter[T, R]]:
        """The first that may go on, and those behind it that may go with it."""
        passed_over: set[str] = set()
        first: _Waiter[T, R] | None = None
        found = 0
        for waiter in self._waiting:
            waiter.waits_for_lock = self._contended(waiter.streams)
            if not (
                self._in_flight.isdisjoint(waiter.streams)
                and passed_over.isdisjoint(waiter.streams)
                and (_go_together(first, waiter) if first else self._room[waiter.waits_for_lock])
            ):
                passed_over.update(waiter.streams)
                continue
            first = first or waiter
            yield waiter
            found += 1
            if found == self._most:
                return

    def _lead(self, group: list[_Waiter[T, R]]) -> None:
        """Run the group, our own item among it. Those that were left out come again."""
        again: list[_Waiter[T, R]] = []
        try:
            answers = self._run_together([waiter.item for waiter in group], wait=group[0].waits_for_lock)
            again = [waiter for waiter, answer in zip(group, answers, strict=True) if answer is self._left_out]
            for waiter, answer in zip(group, answers, strict=True):
                waiter.answer, waiter.is_done = answer, True
        except BaseException as error:  # noqa: BLE001 - it is raised again by each whose it is
            if len(group) > 1 and _is_of_one(error):
                again = self._run_alone(group)
            else:
                for waiter in group:
                    waiter.error, waiter.is_done = error if waiter is group[0] else _copy(error), True
        finally:
            with self._lock:
                self._room[group[0].waits_for_lock] += 1
                for waiter in group:
                    self._in_flight.difference_update(waiter.streams)
                    waiter.group = []
                self._waiting.extendleft(reversed(again))
                self._call_leaders()
            for waiter in group:
                if waiter not in again:
                    if not waiter.is_done:
                        waiter.error = Unavailable("the thread that ran it together with others was ended")
                    waiter.called.set()

    def _run_alone(self, group: list[_Waiter[T, R]]) -> list[_Waiter[T, R]]:
        """Each by itself; returns those that were left out."""
        for waiter in group:
            try:
                [waiter.answer] = self._run_together([waiter.item], wait=waiter.waits_for_lock)
            except Exception as error:  # noqa: BLE001 - it is raised again by whose it is
                waiter.error = error
            waiter.is_done = True
        return [waiter for waiter in group if waiter.answer is self._left_out and not waiter.error]


def _go_together(one: _Waiter[T, R], other: _Waiter[T, R]) -> bool:
    if one.waits_for_lock or other.waits_for_lock:
        return one.waits_for_lock == other.waits_for_lock and one.streams == other.streams
    return True


def _is_of_one(error: BaseException) -> bool:
    """Whether it is the fault of one of them, or of one that others were faster than, and not of them all."""
    if isinstance(error, Unavailable):
        return isinstance(error, ConflictRetriesExhausted)
    return isinstance(error, Exception)


def _copy(error: BaseException) -> BaseException:
    """One error is not raised in several threads: each would add its traceback to those of the others."""
    try:
        other = copy.copy(error)
    except Exception:  # noqa: BLE001 - whatever its class needs
        other = Unavailable(str(error))
    other.__cause__ = error.__cause__
    return other
