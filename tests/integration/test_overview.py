"""What `allocation status` sees of real servers, and that it answers in time when they are away."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from sqlalchemy import Engine
from tests.integration.conftest import Sql
from tests.integration.fault_proxy import FaultProxy
from werkzeug.serving import make_server

from allocation.adapters.redis_channels import BRIDGE_LOCK, COMMANDS, GROUP
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.database.engine import database_engine
from allocation.database.schema import REVISION
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch, Dispatch, ParcelLine, Quarantine
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.entrypoints.redis_eventconsumer import handle
from messaging.redis.client import redis_client
from messaging.redis.lag import Lag, lag_of
from messaging.sql.backlog import backlogs
from messaging.sql.connections import connection
from messaging.sql.estimates import rows_about
from messaging.sql.exclusive import holder_of, make_exclusive

PUBLISH, MAIL = "publish_event", "send_out_of_stock_notification"


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    """With an API at its port, which is asked how the service is."""
    with ThreadPoolExecutor(1) as thread, closing(bootstrap(settings, connections=2)) as service:
        server = make_server("127.0.0.1", 0, create_app(service, UNRESTRICTED))
        serving = thread.submit(server.serve_forever, 0.05)
        yield replace(settings, port=server.server_port)
        server.shutdown()
        serving.result()
        server.server_close()


def status(settings: Settings, *options: str) -> Result:
    return CliRunner(env=settings.as_environment({})).invoke(main, ["status", *options])


def seen(settings: Settings) -> dict[str, Any]:
    return json.loads(status(settings, "--json").stdout)  # type: ignore[no-any-return]


@pytest.fixture
def consumer(service: Service) -> Service:
    """A consumer is at work: it has both locks, and has read the stream."""
    assert service.pubsub_bus.is_ours()
    assert service.command_bus.is_ours()
    service.command_group.take_over()
    return service


def test_sees_servers_stock_and_who_is_at_work(consumer: Service, settings: Settings) -> None:
    for command in (
        CreateBatch("b1", "LAMP", 10),
        CreateBatch("b2", "LAMP", 100, date(2031, 1, 1)),
        CreateBatch("b3", "SPOON", 5),
        Allocate("o1", "LAMP", 4),
        Allocate("o2", "LAMP", 30),
        Allocate("o3", "SPOON", 5),
        CreateBatch("b4", "LAMP", 7, date(2001, 1, 1)),
        CreateBatch("b5", "LAMP", 8, expires=date(2001, 1, 1)),
        Dispatch("o1", "p1", (ParcelLine("LAMP", 1),)),
        Quarantine("b1", 2, "damaged", "q1"),
    ):
        consumer.bus.handle(command)

    found = seen(settings)

    screen = status(settings).output
    assert re.search(r"^on hand +1 +9 +3 +0 +2 +4$", screen, re.MULTILINE)
    assert re.search(r"^incoming +2 +107 +30 +0 +0 +77$", screen, re.MULTILINE)
    assert re.search(r"^overdue batches +1$", screen, re.MULTILINE)
    assert found["verdict"] == "fine"
    assert found["problems"] == []
    assert found["database"]["revision"] == found["database"]["needed_revision"] == REVISION
    assert found["redis"]["product"] in ("Valkey", "Redis")
    assert found["redis"]["commands"]["unread"] == 0
    assert found["consumer"]["channel"]["address"] == "127.0.0.1"
    assert found["api"]["where"] == f"http://127.0.0.1:{settings.port}"
    assert (found["api"]["status"], found["api"]["redis_run"]) == ("ready", found["redis"]["run"])
    assert found["api"]["milliseconds"] > 0
    assert found["consumer"]["stream"]["since"]
    assert found["stock"] == {
        "skus": 2,
        "open_batches": 3,  # the spoons are all promised, and what has expired does not count
        "incoming_batches": 2,
        "on_hand": 9,
        "on_hand_allocated": 3,
        "on_hand_held": 0,
        "on_hand_quarantined": 2,
        "on_hand_available": 4,
        "incoming": 107,
        "incoming_allocated": 30,
        "incoming_held": 0,
        "incoming_available": 77,
        "is_complete": True,
    }
    assert found["due_dates"]["overdue_batches"] == 1


def test_sees_a_redis_that_evicts_and_a_database_that_only_reads(
    consumer: Service, settings: Settings, redis_server: redis.Redis, sql: Sql
) -> None:
    [(name,)] = sql("SELECT current_database()")
    sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    redis_server.config_set("maxmemory", 1_000_000_000)
    redis_server.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = seen(settings)
    finally:
        redis_server.config_set("maxmemory-policy", "noeviction")
        redis_server.config_set("maxmemory", 0)

    whats = [problem["what"] for problem in found["problems"]]
    assert whats[0] == "PostgreSQL only reads"
    assert "Redis evicts events and commands (allkeys-lru)" in whats
    assert 0 < found["redis"]["memory_used"] < 0.1


def test_never_shows_a_password(consumer: Service, settings: Settings) -> None:
    secret = str(consumer.engine.url.password)
    assert len(secret) > 5

    for options in ([], ["--json"]):
        assert secret not in status(settings, *options).output


def test_the_screen_ends_with_the_verdict(consumer: Service, settings: Settings) -> None:
    consumer.bus.handle(CreateBatch("b1", "LAMP", 1_000))

    result = status(settings)

    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "All is fine.")
    assert "1,000" in result.output


def test_an_api_that_is_not_there_needs_a_person(consumer: Service, settings: Settings) -> None:
    without = replace(settings, port=9)

    result, found = status(without), seen(without)

    assert result.exit_code == 1
    assert "no API at http://127.0.0.1:9 (connection refused): start it: `allocation serve`" in result.output
    assert found["verdict"] == "needs a person"
    assert found["api"] == {"where": "http://127.0.0.1:9", "answers": False, "error": "connection refused"}


def test_the_api_of_another_service_needs_a_person(consumer: Service, settings: Settings) -> None:
    another = replace(settings, redis_url=settings.redis_url.removesuffix("/0") + "/7")

    assert "is that of another service" in status(another).output


def test_the_screen_has_no_blanks_at_the_ends_of_its_lines(consumer: Service, settings: Settings) -> None:
    lines = status(settings).output.splitlines()

    assert lines == [line.rstrip() for line in lines]
    assert any(re.match(r"API +http://127.0.0.1:\d+ +ready, answers in [\d.]+ ms$", line) for line in lines)


def test_without_a_consumer_somebody_is_told_to_start_one(service: Service, settings: Settings) -> None:
    result = status(settings)

    assert result.exit_code == 1
    assert "nobody reads the command stream: start a consumer: `allocation consume`" in result.output


def test_sees_what_waits_and_how_long_by_effect(service: Service, engine: Engine, sql: Sql) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 1))
    service.bus.handle(CreateBatch("b2", "SPOON", 1))
    service.bus.handle(Allocate("o1", "LAMP", 5))
    sql("UPDATE event_log SET time = now() - interval '90 seconds' WHERE stream = 'SPOON'")
    sql("UPDATE outbox SET attempts = 2 WHERE effect = :mail", mail=MAIL)

    with connection(engine) as asked:
        publish, mail = backlogs(asked)

    assert (publish.effect, publish.waiting, publish.streams, publish.failing, publish.dead) == (PUBLISH, 3, 2, 0, 0)
    assert (mail.effect, mail.waiting, mail.streams, mail.failing, mail.dead) == (MAIL, 1, 1, 1, 0)
    assert publish.oldest is not None
    assert 90 <= publish.oldest < 150
    assert publish.is_complete


def test_counts_only_so_much_and_says_so(service: Service, engine: Engine) -> None:
    for number in range(4):
        service.bus.handle(CreateBatch(f"b{number}", f"SKU-{number}", 1))

    with connection(engine) as asked:
        [few_letters] = backlogs(asked, most_messages=3)
        [few_streams] = backlogs(asked, most_streams=2)

    assert (few_letters.waiting, few_letters.is_complete) == (3, False)
    assert (few_streams.waiting, few_streams.streams, few_streams.is_complete) == (4, 2, False)


def test_sees_dead_effects_and_dead_messages(consumer: Service, settings: Settings, sql: Sql) -> None:
    consumer.bus.handle(CreateBatch("b1", "LAMP", 0))
    consumer.bus.handle(Allocate("o1", "LAMP", 1))
    sql("UPDATE outbox SET dead_at = now() WHERE effect = :mail", mail=MAIL)
    handle(consumer, b'{"batchref": "nowhere", "qty": 5}')

    found = seen(settings)

    assert found["dead"] == {"messages": 1, "effects": 1}
    assert [problem["helps"] for problem in found["problems"]] == ["allocation dead-letters list"] * 2


def test_an_old_schema_is_said_and_nothing_else_is_asked(unmigrated_url: str, settings: Settings) -> None:
    found = seen(replace(settings, database_url=unmigrated_url))

    assert (found["database"]["answers"], found["database"]["revision"]) == (True, None)
    assert {
        "what": f"the schema is at revision none, and {REVISION} is needed",
        "helps": "allocation migrate",
    } in found["problems"]


# --- when something is away ------------------------------------------------------


@pytest.fixture
def proxy(database_url: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(database_url)
    yield proxy
    proxy.close()


def test_answers_in_time_when_the_database_is_silent(consumer: Service, settings: Settings, proxy: FaultProxy) -> None:
    proxy.fall_silent()
    begun = time.monotonic()

    found = seen(replace(settings, database_url=proxy.url))

    assert time.monotonic() - begun < 6
    assert (found["database"]["answers"], found["redis"]["answers"], found["stock"]) == (False, True, None)
    assert found["verdict"] == "needs a person"


def test_answers_in_time_when_both_are_away(
    settings: Settings, database_away: Callable[[], AbstractContextManager[None]]
) -> None:
    begun = time.monotonic()
    with database_away():
        result = status(replace(settings, redis_url="redis://127.0.0.1:9/0"))

    assert time.monotonic() - begun < 6
    assert result.exit_code == 1
    assert "PostgreSQL: " in result.output
    assert "Redis: " in result.output
    assert "Traceback" not in result.output


# --- the parts ---------------------------------------------------------------------


def test_who_holds_a_lock_is_known_without_trying_to_get_it(engine: Engine, database_url: str) -> None:
    exclusive = make_exclusive(database_engine(database_url, connections=1), BRIDGE_LOCK)
    with connection(engine) as asked:
        assert holder_of(asked, BRIDGE_LOCK) is None
        with connection(exclusive):
            holder = holder_of(asked, BRIDGE_LOCK)
            assert holder is not None
            assert holder.address == "127.0.0.1"
            assert holder_of(asked, "another") is None
        exclusive.dispose()


def test_how_far_a_group_is_behind(every_redis_url: str) -> None:
    with redis_client(every_redis_url) as client:
        assert lag_of(client, COMMANDS, GROUP) == Lag(0, 0, None, ())
        client.xgroup_create(COMMANDS, GROUP, id="0", mkstream=True)
        assert lag_of(client, COMMANDS, GROUP) == Lag(0, 0, None, ())

        moment = int(client.time()[0]) * 1000 - 60_000
        for number in range(5):
            client.xadd(COMMANDS, {"command": "x"}, id=f"{moment + number * 10_000}-0")
        client.xreadgroup(GROUP, "reader", {COMMANDS: ">"}, count=2)
        client.xack(COMMANDS, GROUP, f"{moment}-0")
        lag = lag_of(client, COMMANDS, GROUP)

    assert (lag.unread, lag.pending, lag.readers, lag.is_complete) == (3, 1, ("reader",), True)
    assert lag.oldest is not None
    assert 50 <= lag.oldest < 60


@pytest.mark.own_database
def test_what_a_planner_believes_of_a_table(service: Service, engine: Engine, sql: Sql) -> None:
    assert rows_about(engine, "event_log") is None
    service.bus.handle(CreateBatch("b1", "LAMP", 1))
    service.bus.handle(ChangeBatchQuantity("b1", 2))
    sql("ANALYZE event_log")

    assert rows_about(engine, "event_log") == 2
    assert rows_about(engine, "nowhere") is None


def test_redis_that_vanished_is_a_line(redis_server: redis.Redis, settings: Settings) -> None:
    result = CliRunner(env=replace(settings, redis_url="redis://127.0.0.1:9/0").as_environment({})).invoke(
        main, ["watch"]
    )

    assert result.exit_code == 1
    assert result.output.startswith("Error: redis: ")
    assert len(result.output.splitlines()) == 1
