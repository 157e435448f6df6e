"""What of an overview needs a person, and what the person is told to do."""

from __future__ import annotations

import time
from dataclasses import replace
from threading import Event

import pytest
from redis import Redis

from allocation.database.schema import REVISION
from allocation.overview import Api, Overview, Unreachable, glance, problems
from allocation.overview.diagnosis import LATE, duration_in_words
from allocation.overview.servers import BrokerStatus, DatabaseStatus, Tables
from allocation.views import due_dates
from allocation.views.stock_totals import StockTotals
from messaging.redis.lag import Lag
from messaging.sql.backlog import Backlog
from messaging.sql.exclusive import Holder

SOMEBODY = Holder("10.0.0.7", None)
STOCK = StockTotals(1, 1, 0, 10, 3, 0, 0, 7, 0, 0, 0, 0, is_complete=True)
TABLES = Tables(backlogs=[], dead_messages=0, stock=STOCK, bridge=SOMEBODY, command_stream=SOMEBODY)
DATABASE = DatabaseStatus("18.4", 0.5, REVISION, TABLES)
BROKER = BrokerStatus("Valkey", "9.1.2", 0.1, Lag(0, 0, None, ("host:1",)), 1, "0f3c/0")
URL = "http://127.0.0.1:5005"
API = Api("ready", 1.5, "0f3c/0")
PUBLISH = Backlog("publish_event", 5, 2, 0, 0, oldest=1.0, is_complete=True)


def seen(
    database: DatabaseStatus | Unreachable | None = DATABASE,
    broker: BrokerStatus | Unreachable | None = BROKER,
    api: Api | Unreachable = API,
) -> Overview:
    return Overview(database, broker, api, URL)


def of_tables(**changes: object) -> list[str]:
    tables = replace(TABLES, **changes)  # type: ignore[arg-type] # each test changes one field
    return [str(problem) for problem in problems(seen(replace(DATABASE, tables=tables)))]


def test_nothing_is_wrong_with_a_service_that_runs() -> None:
    assert problems(seen()) == []


def test_what_has_only_just_happened_is_not_late() -> None:
    assert of_tables(backlogs=[PUBLISH]) == []


def test_what_waits_for_long_asks_for_a_relay() -> None:
    [said] = of_tables(backlogs=[replace(PUBLISH, oldest=LATE + 60)])

    assert said == "publish_event is late by 90 s: is a relay running? `allocation relay`"


def test_what_came_due_long_ago_asks_for_a_relay() -> None:
    assert of_tables(due_dates=due_dates.Backlog(LATE, 3)) == []

    [said] = of_tables(due_dates=due_dates.Backlog(LATE + 60, 3))

    assert said == "what came due 90 s ago is not recorded: is a relay running? `allocation relay`"


def test_what_fails_for_long_asks_for_what_is_away() -> None:
    [said] = of_tables(backlogs=[replace(PUBLISH, oldest=600.0, failing=1)])

    assert "late by 10 min, and fails: bring Redis or the mail server back" in said


def test_dead_letters_lead_to_the_list_of_them() -> None:
    dead = replace(PUBLISH, dead=2, oldest=None)

    assert of_tables(backlogs=[dead], dead_messages=1) == [
        "2 dead effects of publish_event, with what waits behind: allocation dead-letters list",
        "1 dead message: allocation dead-letters list",
    ]


def test_a_redis_that_evicts_or_is_full_is_named() -> None:
    def said(used: float | None, policy: str) -> list[str]:
        return [str(problem) for problem in problems(seen(broker=replace(BROKER, memory_used=used, policy=policy)))]

    assert said(None, "allkeys-lru") == said(0.9, "noeviction") == said(0.9, "volatile-lru") == []
    assert said(0.2, "allkeys-lfu") == [
        "Redis evicts events and commands (allkeys-lfu): set maxmemory-policy noeviction"
    ]
    assert said(1.02, "noeviction") == ["Redis is full: 102% of its maxmemory: raise maxmemory, or lower EVENTS_STAY"]


def test_a_database_that_only_reads_is_named_and_no_consumer_is_asked_for() -> None:
    standby = replace(DATABASE, writes=False, tables=replace(TABLES, bridge=None, command_stream=None))

    [said] = problems(seen(standby))

    assert said.what == "PostgreSQL only reads"


@pytest.mark.parametrize("lock", ["bridge", "command_stream"])
def test_a_consumer_that_is_missing_is_missed(lock: str) -> None:
    [said] = of_tables(**{lock: None})

    assert said.endswith("start a consumer: `allocation consume`")


def test_an_old_schema_is_to_be_migrated_and_a_newer_one_is_not() -> None:
    old = seen(replace(DATABASE, revision="0001", tables=None))
    newer = seen(replace(DATABASE, revision="9999"))

    assert [problem.helps for problem in problems(old)] == ["allocation migrate"]
    assert problems(newer) == []


def test_commands_that_nobody_reads_are_named() -> None:
    slow = replace(BROKER, commands=Lag(7, 0, LATE + 1, ()))

    assert [problem.what for problem in problems(seen(broker=slow))] == ["commands wait for 31 s"]


def test_a_server_that_is_away_is_named_with_its_reason() -> None:
    found = problems(seen(Unreachable("connection refused"), Unreachable("redis: connection refused")))

    assert [problem.what for problem in found] == [
        "PostgreSQL: connection refused",
        "Redis: connection refused",
    ]


def test_when_nothing_runs_that_is_one_problem() -> None:
    [problem] = problems(seen(None, None, Unreachable("connection refused")))

    assert problem.what == "nothing runs here"


def test_one_of_which_nobody_knows_where_it_is_is_not_running() -> None:
    assert [problem.what for problem in problems(seen(broker=None))] == ["Redis: not running"]
    assert [problem.what for problem in problems(seen(database=None))] == ["PostgreSQL: not running"]


def test_an_api_that_is_not_there_is_to_be_started_and_the_address_that_was_asked_is_named() -> None:
    [problem] = problems(seen(api=Unreachable("connection refused")))

    assert problem.what == f"no API at {URL} (connection refused)"
    assert problem.helps == "start it: `allocation serve`, or say where it is with HOST and PORT"


@pytest.mark.parametrize("status", ["degraded", "not ready"])
def test_an_api_that_is_not_well_says_itself_why(status: str) -> None:
    [problem] = problems(seen(api=replace(API, status=status)))

    assert str(problem) == f"the API at {URL} is {status}: see {URL}/readyz"


def test_the_api_of_another_service_is_not_taken_for_ours() -> None:
    [problem] = problems(seen(api=replace(API, redis_run="another/0")))

    assert str(problem) == f"the API at {URL} is that of another service: say where ours is with HOST and PORT"


@pytest.mark.parametrize(("told", "ours"), [(None, "0f3c/0"), ("0f3c/0", None)])
def test_an_api_is_not_doubted_where_nobody_tells(told: str | None, ours: str | None) -> None:
    assert problems(seen(broker=replace(BROKER, run=ours), api=replace(API, redis_run=told))) == []


def test_a_server_that_takes_the_question_and_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Event()
    monkeypatch.setattr(glance, "broker", lambda _: told.wait(5))
    monkeypatch.setattr(glance, "api", lambda _: told.wait(5))
    begun = time.monotonic()

    with Redis() as never_asked:
        overview = glance.look(None, never_asked, URL, patience=0.05)

    assert time.monotonic() - begun < 2
    silent = Unreachable("does not answer in time")
    assert overview == Overview(None, silent, silent, URL)
    told.set()


def test_a_fault_of_ours_is_not_taken_for_one_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> BrokerStatus:
        raise KeyError("version")

    monkeypatch.setattr(glance, "broker", fails)
    monkeypatch.setattr(glance, "api", lambda _: API)

    with Redis() as never_asked, pytest.raises(KeyError):
        glance.look(None, never_asked, URL)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (300, "5 min"), (7_200, "2 h"), (200_000, "2 days")]
)
def test_a_time_is_said_as_a_person_would(seconds: float, said: str) -> None:
    assert duration_in_words(seconds) == said
