"""Waiting commands of one stream run together; nobody loses a place, an answer or a turn."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock

import pytest

from messaging.errors import Unavailable
from messaging.grouping import Groups

PATIENCE = 10.0


@dataclass
class Counter:
    """Runs groups; the first one waits at the door, so that others gather behind it."""

    door: Event = field(default_factory=Event)
    entered: Event = field(default_factory=Event)
    groups: list[list[int]] = field(default_factory=list)

    def __call__(self, asked: Sequence[int]) -> list[int]:
        self.groups.append(list(asked))
        if len(self.groups) == 1:
            self.entered.set()
            assert self.door.wait(PATIENCE)
        if bad := [number for number in asked if number < 0]:
            raise ValueError(f"not {bad[0]}")
        return [number * 10 for number in asked]


def ask_while_one_is_at_work(counter: Counter, groups: Groups[int, int], asked: Sequence[int]) -> list[Future[int]]:
    """Asks 0, and while that is at work the others, one after another."""
    with ThreadPoolExecutor(len(asked) + 1) as pool:
        futures = [pool.submit(groups.run, "stream", 0)]
        assert counter.entered.wait(PATIENCE)
        for number in asked:
            futures.append(pool.submit(groups.run, "stream", number))
            wait_until_queued(groups, len(futures))
        counter.door.set()
    return futures


def wait_until_queued(groups: Groups[int, int], places: int) -> None:
    tick = Event()
    for _ in range(1_000):
        if len(groups._queues.get("stream", ())) >= places:
            return
        tick.wait(PATIENCE / 1_000)
    raise AssertionError(f"{places} places were never taken")


def test_who_finds_nobody_runs_alone_and_at_once() -> None:
    counter = Counter()
    counter.door.set()
    groups = Groups(counter)

    assert [groups.run("stream", number) for number in (1, 2)] == [10, 20]
    assert counter.groups == [[1], [2]]


def test_those_who_wait_run_together_in_the_order_in_which_they_came() -> None:
    counter = Counter()

    futures = ask_while_one_is_at_work(counter, Groups(counter), [1, 2, 3])

    assert counter.groups == [[0], [1, 2, 3]]
    assert [future.result() for future in futures] == [0, 10, 20, 30]


def test_no_more_run_together_than_is_allowed() -> None:
    counter = Counter()

    futures = ask_while_one_is_at_work(counter, Groups(counter, most=2), [1, 2, 3, 4, 5])

    assert counter.groups == [[0], [1, 2], [3, 4], [5]]
    assert [future.result() for future in futures] == [0, 10, 20, 30, 40, 50]


def test_streams_do_not_wait_for_each_other() -> None:
    counter = Counter()
    groups = Groups(counter)

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(groups.run, "slow", 1)
        assert counter.entered.wait(PATIENCE)
        assert groups.run("quick", 2) == 20
        counter.door.set()
        assert slow.result(PATIENCE) == 10


def test_a_fault_of_one_is_not_the_others_fault() -> None:
    counter = Counter()

    futures = ask_while_one_is_at_work(counter, Groups(counter), [1, -1, 2])

    assert counter.groups == [[0], [1, -1, 2], [1], [-1], [2]]
    assert [futures[number].result() for number in (1, 3)] == [10, 20]
    with pytest.raises(ValueError, match="not -1"):
        futures[2].result()


@dataclass
class Outage(Counter):
    def __call__(self, asked: Sequence[int]) -> list[int]:
        super().__call__(asked)
        if len(self.groups) > 1:
            raise Unavailable("no database")
        return [0]


def test_when_the_surroundings_fail_all_are_told_at_once() -> None:
    outage = Outage()

    futures = ask_while_one_is_at_work(outage, Groups(outage), [1, 2, 3])

    assert len(outage.groups) == 2
    for future in futures[1:]:
        with pytest.raises(Unavailable):
            future.result()


class Interrupt(Counter):
    def __call__(self, asked: Sequence[int]) -> list[int]:
        super().__call__(asked)
        if len(self.groups) > 1:
            raise SystemExit
        return [0]


def test_whoever_is_interrupted_leaves_nobody_waiting() -> None:
    interrupt = Interrupt()
    groups = Groups(interrupt)

    futures = ask_while_one_is_at_work(interrupt, groups, [1, 2])

    assert all(isinstance(future.exception(PATIENCE), SystemExit) for future in futures[1:])
    assert groups._queues == {}


def test_many_threads_all_get_their_own_answers_and_nothing_is_left() -> None:
    calls = Lock()

    def ten_times(asked: Sequence[int]) -> list[int]:
        assert calls.acquire(blocking=False), "one at a time"
        try:
            return [number * 10 for number in asked]
        finally:
            calls.release()

    groups = Groups(ten_times, most=5)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: groups.run("stream", number), range(2_000)))

    assert answers == [number * 10 for number in range(2_000)]
    assert groups._queues == {}
