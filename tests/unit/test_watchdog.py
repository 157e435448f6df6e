"""A database that is away: who waits how long, and which of several hosts is tried first."""

from __future__ import annotations

import gc
import time
import weakref
from contextlib import suppress
from threading import Event, Thread
from typing import Any, ClassVar, cast

import psycopg
import pytest
from psycopg.errors import ConnectionTimeout

from embedded.waiting import wait_for
from messaging.sql.watchdog import Timeouts, Watchdog, turned, within


def test_each_of_several_hosts_is_in_front_once() -> None:
    given = {"host": "a,b,c", "port": "1,2,3", "dbname": "d"}

    fronts = [turned(given, turn) for turn in range(4)]

    assert [each["host"] for each in fronts] == ["a,b,c", "b,c,a", "c,a,b", "a,b,c"]
    assert [each["port"] for each in fronts] == ["1,2,3", "2,3,1", "3,1,2", "1,2,3"]
    assert all(each["dbname"] == "d" for each in fronts)


@pytest.mark.parametrize("given", [{"host": "a", "port": 1}, {"host": "a"}, {}])
def test_a_single_host_stays_as_it_is(given: dict[str, Any]) -> None:
    assert turned(given, 1) == given


def test_who_waits_for_a_connection_waits_so_long_and_no_longer() -> None:
    never = Event()

    def connect() -> psycopg.Connection[Any]:
        never.wait(10)
        raise psycopg.OperationalError("too late")

    with pytest.raises(ConnectionTimeout, match="no answer within 0"):
        within(0.01, connect)
    never.set()


def test_while_this_process_itself_is_busy_no_time_counts() -> None:
    """Such as with ten thousand lines, or with its garbage: the database has answered, and nobody could look."""
    stop, connected = Event(), cast("psycopg.Connection[Any]", object())
    hog = Thread(target=lambda: [sum(range(4_000_000)) for _ in iter(stop.is_set, True)])  # in C, with the GIL held

    def connect() -> psycopg.Connection[Any]:
        for _ in range(5):
            time.sleep(0.001)  # the server answers at once
        return connected

    hog.start()
    try:
        assert within(0.1, connect) is connected
    finally:
        stop.set()
        hog.join()


def test_why_a_connection_failed_is_said_to_who_waits() -> None:
    def connect() -> psycopg.Connection[Any]:
        raise psycopg.OperationalError("refused")

    with pytest.raises(psycopg.OperationalError, match="refused"):
        within(1.0, connect)


class Refused(psycopg.OperationalError):
    """One that can be counted."""

    alive: ClassVar[weakref.WeakSet[Refused]] = weakref.WeakSet()

    def __init__(self) -> None:
        super().__init__("refused")
        self.alive.add(self)


def test_a_connection_that_failed_is_gone_once_it_has_been_told() -> None:
    """Its traceback holds the driver's socket, and garbage is collected seldom."""

    def connect() -> psycopg.Connection[Any]:
        raise Refused

    def try_to_connect() -> None:
        with suppress(Refused):
            within(1.0, connect)

    gc.disable()
    try:
        try_to_connect()
        assert wait_for(lambda: not Refused.alive, within=5), "it keeps itself"
    finally:
        gc.enable()


def test_whoever_looks_after_the_database_goes_on_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else would let callers in again."""
    looks: list[float] = []
    stop = Event()

    class Clumsy(Watchdog):
        def _look(self, stop: Event) -> None:
            looks.append(time.monotonic())
            if len(looks) == 1:
                raise RuntimeError("can't start new thread")
            stop.set()

    Clumsy(Timeouts(look=0.001))._look_until(stop)

    assert len(looks) == 2
    assert "could not look after the database, and goes on" in caplog.messages
