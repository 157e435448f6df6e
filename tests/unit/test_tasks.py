"""A process of several tasks is wholly there or not at all: its parent starts again what has ended, nothing else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest

from allocation.bootstrap import Service
from allocation.entrypoints import cli, outbox_relay, redis_commands, redis_eventconsumer
from allocation.entrypoints.http.server import Server
from allocation.entrypoints.tasks import run_until_one_ends

PATIENCE = 5.0


class Death(BaseException):
    """What no loop goes on after."""


def dies(_: Event) -> None:
    raise Death


class Lives:
    """A task that is at work until it is told to stop."""

    def __init__(self) -> None:
        self.has_begun, self.has_ended = Event(), Event()

    def __call__(self, stop: Event) -> None:
        self.has_begun.set()
        stop.wait(PATIENCE)
        self.has_ended.set()


def test_when_one_dies_the_others_are_told_to_stop_and_it_is_said_of_what() -> None:
    other, stop = Lives(), Event()

    with pytest.raises(Death):
        run_until_one_ends(stop, other=other, one=dies)

    assert stop.is_set()
    assert other.has_ended.is_set(), "nothing of the process is at work any more"


def test_one_that_just_ends_takes_the_others_along() -> None:
    other = Lives()

    run_until_one_ends(Event(), other=other, one=lambda _: None)

    assert other.has_ended.is_set()


def test_what_the_first_died_of_is_what_is_said() -> None:
    def dies_of_it(stop: Event) -> None:
        stop.wait(PATIENCE)
        raise ValueError("the other was gone")

    with pytest.raises(Death):
        run_until_one_ends(Event(), last=dies_of_it, first=dies)


def test_all_end_when_told_to_and_nothing_is_said() -> None:
    tasks, stop = (Lives(), Lives()), Event()
    process = Thread(target=run_until_one_ends, args=(stop,), kwargs={"one": tasks[0], "other": tasks[1]})
    process.start()
    for task in tasks:
        assert task.has_begun.wait(PATIENCE)

    stop.set()
    process.join(PATIENCE)

    assert not process.is_alive()


def of_relay(task: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Event], None]:
    monkeypatch.setattr(outbox_relay, "settle_memory", lambda: None)
    tasks: dict[str, Any] = {name: SimpleNamespace(run=Lives()) for name in ("relay", "backfill", "housekeeping")}
    tasks[task].run = dies
    return lambda stop: outbox_relay.run(cast(Service, SimpleNamespace(**tasks)), stop)


def of_consumer(task: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Event], None]:
    monkeypatch.setattr(redis_eventconsumer, "settle_memory", lambda: None)
    for name, module, function in (("commands", redis_commands, "run"), ("listener", redis_eventconsumer, "listen")):
        work = dies if name == task else Lives()
        monkeypatch.setattr(module, function, lambda _, stop, work=work: work(stop))
    return lambda stop: redis_eventconsumer.run(cast(Service, None), stop)


@pytest.mark.parametrize(
    ("process", "task"),
    [
        (of_relay, "relay"),
        (of_relay, "backfill"),
        (of_relay, "housekeeping"),
        (of_consumer, "listener"),
        (of_consumer, "commands"),
    ],
)
def test_no_process_outlives_a_task_of_it(
    process: Callable[..., Callable[[Event], None]], task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stop = {*threading.enumerate()}, Event()
    try:
        with pytest.raises(Death):
            process(task, monkeypatch)(stop)
        assert {*threading.enumerate()} <= before
    finally:
        stop.set()


@pytest.fixture
def handlers() -> Iterator[None]:
    """Are afterwards as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def of_a_part() -> Event:
    return cli._stop_on_signals()


def of_the_server() -> Event:
    wakes_it = Event()
    server = cast(Server, SimpleNamespace(main_loop_interrupt=wakes_it))
    signal.signal(signal.SIGTERM, partial(Server.signal_handler_interrupt, server))
    return wakes_it


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("stopped_by_signals", [of_a_part, of_the_server])
def test_a_signal_is_heard_while_what_it_sets_is_waited_for_or_set_by_another(
    stopped_by_signals: Callable[[], Event],
) -> None:
    stop = stopped_by_signals()

    with stop._cond:  # type: ignore[attr-defined]  # `wait` and `set` have it for a moment, too
        signal.raise_signal(signal.SIGTERM)

    assert stop.wait(PATIENCE)


@pytest.mark.usefixtures("handlers")
def test_a_part_ends_with_its_terminal_except_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stop = of_a_part()
    signal.raise_signal(signal.SIGHUP)
    assert stop.wait(PATIENCE)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    of_a_part()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
