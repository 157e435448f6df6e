"""Commands that wait at the same time run together; nobody loses a place, an answer or a turn."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import pytest

from embedded.waiting import wait_for
from messaging.coalescing import Coalescer
from messaging.errors import ConflictRetriesExhausted, Unavailable

PATIENCE = 10.0
LEFT_OUT = 1 << 40


@dataclass
class Counter:
    """Multiplies by ten. While the gate is closed whoever comes waits at it."""

    gate: threading.Event = field(default_factory=threading.Event)
    groups: list[list[int]] = field(default_factory=list)
    waited: list[bool] = field(default_factory=list)
    locked: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, group: Sequence[int], *, wait: bool) -> list[int]:
        with self.lock:
            self.groups.append(list(group))
            self.waited.append(wait)
        assert self.gate.wait(PATIENCE)
        return [self.answer(number, wait=wait) for number in group]

    def answer(self, number: int, *, wait: bool) -> int:
        if number < 0:
            raise ValueError(f"not {number}")
        return LEFT_OUT if number in self.locked and not wait else number * 10


class Callers:
    """Each in a thread of its own. A number's stream is its last digit, unless another is given."""

    def __init__(self, coalescer: Coalescer[int, int], counter: Counter, pool: ThreadPoolExecutor) -> None:
        self._coalescer = coalescer
        self._counter = counter
        self._pool = pool
        self._came = 0

    def call(self, number: int, *streams: str) -> Future[int]:
        """Returns once it waits, in the queue or at the gate."""
        future = self._pool.submit(self._coalescer.run, streams or (str(abs(number) % 10),), number)
        self._came += 1
        assert wait_for(lambda: self._are_there() == self._came, within=PATIENCE), f"{number} never came"
        return future

    def _are_there(self) -> int:
        return self._coalescer.waiting + sum(map(len, self._counter.groups))


@contextmanager
def calling(counter: Counter, at_once: int = 1, most: int = 50, contended: Collection[str] = ()) -> Iterator[Callers]:
    def is_contended(streams: Collection[str]) -> bool:
        return not set(contended).isdisjoint(streams)

    coalescer: Coalescer[int, int] = Coalescer(counter, LEFT_OUT, is_contended, at_once=at_once, most=most)
    with ThreadPoolExecutor(16) as pool:
        try:
            yield Callers(coalescer, counter, pool)
        finally:
            counter.gate.set()
    assert coalescer.waiting == 0
    assert coalescer._in_flight == set()


def test_who_finds_nobody_waiting_runs_at_once_and_in_its_own_thread() -> None:
    threads: list[int] = []

    def note(group: Sequence[int], *, wait: bool) -> list[int]:
        threads.append(threading.get_ident())
        return [number * 10 for number in group]

    coalescer: Coalescer[int, int] = Coalescer(note, LEFT_OUT)

    assert [coalescer.run(["a"], number) for number in (1, 2)] == [10, 20]
    assert threads == [threading.get_ident()] * 2


def test_those_who_wait_run_together_whatever_their_streams_in_the_order_in_which_they_came() -> None:
    counter = Counter()

    with calling(counter) as callers:
        futures = [callers.call(number) for number in (1, 2, 3, 12, 4)]
        counter.gate.set()

    assert [future.result() for future in futures] == [10, 20, 30, 120, 40]
    assert counter.groups == [[1], [2, 3, 12, 4]]


def test_as_many_groups_run_at_once_as_there_may_be_and_never_two_of_one_stream() -> None:
    counter = Counter()

    with calling(counter, at_once=2) as callers:
        for number in (1, 11, 2, 12, 3):
            callers.call(number)
        assert counter.groups == [[1], [2]]
        counter.gate.set()

    assert sorted(chain.from_iterable(counter.groups[2:])) == [3, 11, 12]


def test_no_more_run_together_than_is_allowed() -> None:
    counter = Counter()

    with calling(counter, most=2) as callers:
        for number in (1, 2, 3, 4, 5):
            callers.call(number)
        counter.gate.set()

    assert counter.groups == [[1], [2, 3], [4, 5]]


def test_a_stream_that_another_process_has_locked_holds_up_its_own_only_and_waits_then_by_itself() -> None:
    contended: set[str] = set()
    counter = Counter(locked={2, 12})
    answer = counter.answer

    def note_contention(number: int, *, wait: bool) -> int:
        if (found := answer(number, wait=wait)) is LEFT_OUT:
            contended.add(str(number % 10))
        return found

    counter.answer = note_contention  # type: ignore[method-assign]

    with calling(counter, contended=contended) as callers:
        futures = [callers.call(number) for number in (1, 2, 3, 12)]
        counter.gate.set()

    assert [future.result() for future in futures] == [10, 20, 30, 120]
    assert list(zip(counter.groups, counter.waited, strict=True)) == [
        ([1], False),
        ([2, 3, 12], False),
        ([2, 12], True),
    ]


def test_a_contended_stream_has_groups_of_its_own() -> None:
    counter = Counter()

    with calling(counter, contended={"2"}) as callers:
        for number in (1, 3, 2, 4, 12):
            callers.call(number)
        counter.gate.set()

    assert counter.groups[:2] == [[1], [2]], "it does not wait for the others, nor they for it"
    waited = {tuple(group): wait for group, wait in zip(counter.groups, counter.waited, strict=True)}
    assert waited == {(1,): False, (2,): True, (3, 4): False, (12,): True}


def test_who_changes_several_streams_is_not_overtaken_on_any_of_them() -> None:
    counter = Counter()

    with calling(counter) as callers:
        callers.call(1)
        callers.call(21, "1", "2")
        callers.call(2)
        counter.gate.set()

    assert counter.groups == [[1], [21, 2]]

    counter = Counter()
    with calling(counter, at_once=2) as callers:
        callers.call(1)
        callers.call(21, "1", "2")
        callers.call(2)
        assert counter.groups == [[1]], "2 came after one that waits for 1 and changes 2"


def test_a_fault_of_one_is_not_the_others_fault() -> None:
    counter = Counter()

    with calling(counter) as callers:
        futures = [callers.call(number) for number in (1, 2, -3, 4)]
        counter.gate.set()

    assert counter.groups == [[1], [2, -3, 4], [2], [-3], [4]]
    assert [futures[number].result() for number in (1, 3)] == [20, 40]
    with pytest.raises(ValueError, match="not -3"):
        futures[2].result()


@dataclass
class Failing(Counter):
    error: BaseException = field(default_factory=Exception)

    def __call__(self, group: Sequence[int], *, wait: bool) -> list[int]:
        answers = super().__call__(group, wait=wait)
        if len(self.groups) > 1:
            raise self.error
        return answers


@pytest.mark.parametrize("error", [Unavailable("no database"), SystemExit()])
def test_an_outage_or_an_interrupt_is_raised_in_each_thread_as_an_object_of_its_own(error: BaseException) -> None:
    failing = Failing(error=error)

    with calling(failing) as callers:
        futures = [callers.call(number) for number in (1, 2, 3, 4)]
        failing.gate.set()

    assert len(failing.groups) == 2
    raised = [future.exception(PATIENCE) for future in futures[1:]]
    assert [(type(one), str(one)) for one in raised] == [(type(error), str(error))] * 3
    assert len(set(map(id, raised))) == 3


def test_whoever_was_not_answered_when_the_leader_was_ended_is_told_so() -> None:
    @dataclass
    class Ended(Counter):
        def __call__(self, group: Sequence[int], *, wait: bool) -> list[int]:
            answers = super().__call__(group, wait=wait)
            if len(self.groups) == 2:
                raise ValueError("so they run one by one")
            if len(self.groups) == 4:
                raise SystemExit
            return answers

    ended = Ended()

    with calling(ended) as callers:
        futures = [callers.call(number) for number in (1, 2, 3, 4)]
        ended.gate.set()

    assert futures[1].exception(PATIENCE) is None or isinstance(futures[1].exception(), SystemExit)
    assert isinstance(futures[3].exception(PATIENCE), Unavailable)


def test_when_others_were_faster_than_a_group_its_members_run_one_by_one() -> None:
    @dataclass
    class Faster(Counter):
        def __call__(self, group: Sequence[int], *, wait: bool) -> list[int]:
            answers = super().__call__(group, wait=wait)
            if 3 in group:
                raise ConflictRetriesExhausted("somebody has the key of 3")
            return answers

    faster = Faster()

    with calling(faster) as callers:
        futures = [callers.call(number) for number in (1, 2, 3, 4)]
        faster.gate.set()

    assert [futures[number].result() for number in (0, 1, 3)] == [10, 20, 40]
    assert isinstance(futures[2].exception(PATIENCE), ConflictRetriesExhausted)


def test_many_threads_all_get_their_own_answers() -> None:
    in_flight: set[int] = set()
    lock = threading.Lock()

    def ten_times(group: Sequence[int], *, wait: bool) -> list[int]:
        streams = {number % 7 for number in group}
        with lock:
            assert in_flight.isdisjoint(streams), "one at a time"
            in_flight.update(streams)
        with lock:
            in_flight.difference_update(streams)
        return [number * 10 for number in group]

    coalescer: Coalescer[int, int] = Coalescer(ten_times, LEFT_OUT, at_once=3, most=5)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: coalescer.run([str(number % 7)], number), range(2_000)))

    assert answers == [number * 10 for number in range(2_000)]
    assert coalescer.waiting == 0
