"""A database that is away: who waits how long, and which of several hosts is tried first."""

from __future__ import annotations

from threading import Event
from typing import Any

import psycopg
import pytest
from psycopg.errors import ConnectionTimeout

from messaging.sql.watch import turned, within


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


def test_why_a_connection_failed_is_said_to_who_waits() -> None:
    def connect() -> psycopg.Connection[Any]:
        raise psycopg.OperationalError("refused")

    with pytest.raises(psycopg.OperationalError, match="refused"):
        within(1.0, connect)
