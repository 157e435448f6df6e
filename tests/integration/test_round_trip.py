"""Statements that travel together, on a real connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import DivisionByZero, InvalidSqlStatementName, OperationalError
from sqlalchemy import make_url

from messaging.errors import Disconnected
from messaging.sql import round_trip
from messaging.sql.errors import translated
from messaging.sql.round_trip import RoundTrips

BEGIN, COMMIT, ROLLBACK = ("BEGIN", ()), ("COMMIT", ()), ("ROLLBACK", ())
NUMBER = "SELECT $1::int"


@pytest.fixture
def driver(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as driver:
        yield driver


@pytest.fixture
def trips(driver: psycopg.Connection[Any]) -> RoundTrips:
    return RoundTrips(driver)


def prepared(driver: psycopg.Connection[Any]) -> list[str]:
    return [text for (text,) in driver.execute("SELECT statement FROM pg_prepared_statements WHERE name ~ 'together'")]


def test_each_has_its_rows(trips: RoundTrips) -> None:
    several = "SELECT $1::int, name FROM unnest(ARRAY['a', 'b']) AS name"

    assert trips.go(BEGIN, (several, [b"1"]), (NUMBER, [b"2"]), COMMIT) == [[], [(1, "a"), (1, "b")], [(2,)], []]


def test_the_first_that_fails_is_told_and_none_after_it_is_carried_out(
    trips: RoundTrips, driver: psycopg.Connection[Any]
) -> None:
    driver.execute("CREATE TABLE notes (number int)")
    note = "INSERT INTO notes VALUES (1 / $1::int)"

    with pytest.raises(DivisionByZero):
        trips.go(BEGIN, (note, [b"1"]), (note, [b"0"]), (NUMBER, [b"no number"]), COMMIT)

    assert trips.in_transaction
    trips.go(ROLLBACK)
    assert driver.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    assert trips.go((NUMBER, [b"3"])) == [[(3,)]]


def test_much_goes_there_and_comes_back(trips: RoundTrips) -> None:
    """More than the buffers of either side hold: who only sends waits for who only answers."""
    text = "x" * 5_000_000

    there_and_back = [("SELECT $1::text, n FROM generate_series(1, 3) AS n", [text.encode()])] * 3

    assert trips.go(*there_and_back) == [[(text, 1), (text, 2), (text, 3)]] * 3


def test_no_more_statements_are_prepared_than_the_server_should_keep(
    trips: RoundTrips, driver: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trip, "MOST_PREPARED", 2)

    for number in range(4):
        assert trips.go((f"SELECT $1::int + {number}", [b"1"])) == [[(number + 1,)]]

    assert len(prepared(driver)) == 2


def test_what_has_parameters_is_prepared_once(trips: RoundTrips, driver: psycopg.Connection[Any]) -> None:
    other = "SELECT $1::text"
    for number in (b"1", b"2", b"3"):
        trips.go(BEGIN, (NUMBER, [number]), (NUMBER, [number]), (other, [number]), ROLLBACK)

    assert sorted(prepared(driver)) == [NUMBER, NUMBER, other], "the first trip prepares before it knows an answer"


def test_what_could_not_be_prepared_is_not_taken_for_prepared(
    trips: RoundTrips, driver: psycopg.Connection[Any]
) -> None:
    later = "SELECT $1::int FROM later"
    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            trips.go((NUMBER, [b"1"]), (later, [b"1"]))

    driver.execute("CREATE TABLE later AS SELECT 1")
    assert trips.go((later, [b"2"])) == [[(2,)]]


def test_what_the_server_has_forgotten_is_prepared_anew(trips: RoundTrips, driver: psycopg.Connection[Any]) -> None:
    trips.go((NUMBER, [b"1"]))
    driver.execute("DEALLOCATE ALL")

    with pytest.raises(InvalidSqlStatementName):
        trips.go((NUMBER, [b"2"]))

    assert trips.go((NUMBER, [b"2"])) == [[(2,)]]


def test_what_was_prepared_before_a_column_had_another_type_is_prepared_anew(
    trips: RoundTrips, driver: psycopg.Connection[Any]
) -> None:
    asked = "SELECT number FROM typed WHERE number = $1", [b"7"]
    driver.execute("CREATE TEMPORARY TABLE typed AS SELECT CAST(7 AS integer) AS number")
    assert trips.go(asked) == [[(7,)]]
    driver.execute("ALTER TABLE typed ALTER number TYPE bigint")

    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan") as stale:
        trips.go(asked)

    assert isinstance(translated(stale.value), Disconnected), "who tries again comes through"
    assert trips.go(asked) == [[(7,)]]


def test_where_nothing_may_be_prepared_nothing_is(trips: RoundTrips, driver: psycopg.Connection[Any]) -> None:
    driver.prepare_threshold = None

    assert trips.go((NUMBER, [b"1"])) == [[(1,)]]

    assert prepared(driver) == []


def test_a_connection_that_was_cut_is_closed(trips: RoundTrips, driver: psycopg.Connection[Any]) -> None:
    with pytest.raises(OperationalError):
        trips.go(BEGIN, ("SELECT pg_terminate_backend($1::int)", [str(driver.info.backend_pid).encode()]), COMMIT)

    assert driver.closed


def test_who_is_interrupted_in_the_middle_leaves_no_connection_that_others_could_use(
    trips: RoundTrips, driver: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def register(self, *_: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(round_trip, "poll", Interrupted)

    with pytest.raises(KeyboardInterrupt):
        trips.go(BEGIN, COMMIT)

    assert driver.closed
