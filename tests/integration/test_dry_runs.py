"""Dry runs on PostgreSQL: of each command, taken or refused, and not a row of any table is another after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest
import redis
from click.testing import CliRunner, Result
from tests.dry_runs import STATES, Seen, agreed, every_command
from tests.integration.test_command_stream import Producer, answers, dead_letters, until_all_is_done
from tests.integration.threads import at_work

from allocation.adapters.redis_channels import COMMANDS
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.cli import main
from allocation.entrypoints.command_line.asking import commands
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.entrypoints.inbound import retry
from allocation.entrypoints.redis_commands import run
from messaging.errors import Unavailable
from messaging.redis.group import ConsumerGroup

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def every_row(sql: Sql) -> Callable[[], list[tuple[Any, ...]]]:
    """All that the database holds, as text."""
    tables = sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')")
    of_each = [f"SELECT '{name}', CAST(one AS text) FROM {name} AS one" for (name,) in tables]
    numbers = "SELECT sequencename, CAST(last_value AS text) FROM pg_sequences"
    return lambda: sorted(sql(" UNION ALL ".join([*of_each, numbers])), key=str)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def api(settings: Settings, seen: Seen) -> Iterator[Service]:
    """As it serves callers, with a lane for commands that move many lines."""
    service = bootstrap(settings, callers_wait=True, observer=seen)
    yield service
    service.close()


@pytest.mark.parametrize("state", STATES)
def test_each_command_does_what_its_dry_run_has_said_which_leaves_nothing(
    api: Service, seen: Seen, every_row: Callable[[], object], state: str
) -> None:
    for command in STATES[state]:
        api.bus.handle(command)
    seen.take()
    client = create_app(api, UNRESTRICTED).test_client()
    before = every_row()
    for asked in every_command(client):
        answer = asked.dry_run(**{"Idempotency-Key": str(asked)})
        assert answer.status_code == 200, answer.text
        assert every_row() == before, f"{asked} has left something"
    for asked in every_command(client):  # each after what the others have done
        agreed(asked, seen)


# --- the command stream ------------------------------------------------------------


@pytest.fixture
def producer(redis_server: redis.Redis) -> Producer:
    return Producer(redis_server)


DRY = {"replyto": "shop.replies", "dry_run": "1"}


def test_a_dry_run_sees_all_before_it_and_nothing_behind_it_sees_it(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    producer.allocate("o1", "LAMP", 6, **DRY)
    producer.allocate("o2", "LAMP", 6, replyto="shop.replies")
    producer.allocate("o3", "LAMP", 6, **DRY)
    producer.allocate("o4", "SOFA", 1, **DRY)
    producer.change_batch_quantity("b1", 20)
    producer.allocate("o3", "LAMP", 6, **DRY)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    line = {"sku": "LAMP", "qty": 6, "lineid": "LAMP"}
    allocated, out_of_stock = "allocation.allocated.v1", "allocation.out_of_stock.v1"
    events = [
        {"type": allocated, "data": {"orderid": "o1", **line, "batchref": "b1"}},
        {"type": out_of_stock, "data": {"orderid": "o3", **line}},
        {"type": allocated, "data": {"orderid": "o3", **line, "batchref": "b1"}},
    ]
    found = answers(redis_server)
    assert [answer["data"] for answer in found] == [
        {"command": "m2", "dry_run": True, "result": "b1", "events": events[:1]},
        {"command": "m3", "result": "b1"},
        {"command": "m4", "dry_run": True, "result": None, "events": events[1:2]},
        {
            "command": "m5",
            "dry_run": True,
            "refused": "/problems/unknown-sku",
            "because": "Invalid sku SOFA",
            "events": [],
        },
        {"command": "m7", "dry_run": True, "result": "b1", "events": events[2:]},
    ]
    sent: Any = redis_server.xrange(COMMANDS)
    ids = [entry_id.decode() for entry_id, _ in sent]
    assert [answer["id"] for answer in found] == [
        f"{ids[1]}:dry-run",
        "m3:outcome",
        f"{ids[3]}:dry-run",
        f"{ids[4]}:dry-run",
        f"{ids[6]}:dry-run",
    ]
    assert sql("SELECT type FROM event_log ORDER BY position") == [
        ("batch_created.v1",),
        ("allocated.v1",),
        ("batch_quantity_changed.v1",),
    ]
    assert dead_letters(sql) == []


def test_what_was_a_dry_run_may_be_sent_in_earnest(
    service: Service, producer: Producer, redis_server: redis.Redis
) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    for fields in (DRY, DRY, {"replyto": "shop.replies"}):
        producer.allocate("o1", "LAMP", 6, id="m", **fields)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert [answer["data"].get("dry_run", False) for answer in answers(redis_server)] == [True, True, False]
    assert {answer["data"]["result"] for answer in answers(redis_server)} == {"b1"}
    assert len({answer["id"] for answer in answers(redis_server)}) == 3
    assert service.views.allocations("o1")


def test_a_dry_run_that_was_not_acknowledged_is_not_answered_by_what_its_command_has_done(
    service: Service, producer: Producer, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    acknowledge = ConsumerGroup.acknowledge
    failures: list[Exception | None] = [Unavailable("redis is gone"), None]  # of the second part

    def fail_once(self: ConsumerGroup, entries: Any) -> None:
        if failures and (failure := failures.pop()):
            raise failure
        acknowledge(self, entries)

    monkeypatch.setattr(ConsumerGroup, "acknowledge", fail_once)
    producer.allocate("o1", "LAMP", 6, id="m", replyto="shop.replies")
    producer.allocate("o1", "LAMP", 6, id="m", **DRY)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert not failures
    assert [answer["data"].get("dry_run", False) for answer in answers(redis_server)] == [False, True]


def test_a_dry_run_leaves_nothing_but_how_far_the_stream_is_handled(
    service: Service, producer: Producer, redis_server: redis.Redis, every_row: Callable[[], list[Any]]
) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    service.bus.handle(Allocate("o1", "LAMP", 6))
    before = every_row()
    producer.send("change_batch_quantity", {"batchref": "b1", "qty": 3}, **DRY)
    producer.send("change_batch_quantity", {"batchref": "b9", "qty": 3}, **DRY)
    producer.send("change_batch_quantity", {"batchref": "b1", "qty": -3}, **DRY)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert [row for row in every_row() if row[0] != "stream_positions"] == before
    found = {answer["data"]["command"]: answer["data"] for answer in answers(redis_server)}
    assert [found[command].get("refused") for command in ("m1", "m2", "m3")] == [
        None,
        "/problems/not-found",
        "/problems/invalid-values",
    ]
    assert all(data["dry_run"] is True for data in found.values())

    producer.allocate("o2", "LAMP", 1)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    assert len(answers(redis_server)) == 3, "who starts again does not answer again"


@pytest.mark.parametrize("fields", [{"dry_run": "1"}, DRY | {"dry_run": "0"}, DRY | {"dry_run": "true"}])
def test_a_dry_run_that_nobody_is_told_of_or_that_is_none_is_a_dead_letter_that_stays_one(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, fields: dict[str, str]
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    producer.allocate("o1", "LAMP", 6, **fields)
    producer.allocate("o2", "LAMP", 6)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [(reason, _)] = dead_letters(sql)
    said = fields["dry_run"]
    assert reason == f"dry_run: must be 1, beside a field `replyto` that says who is told, not {said!r}"
    assert [answer["data"]["because"] for answer in answers(redis_server)] == [reason] * ("replyto" in fields)
    [letter] = service.dead_letters.messages()
    assert json.loads(letter.body)["dry_run"] == said
    unsettled = retry(service, letter)
    assert unsettled
    assert unsettled.reason == reason
    assert (service.views.allocations("o1"), len(service.views.allocations("o2"))) == ([], 1)


def test_a_dry_run_waits_for_the_database_as_a_command_does(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    faults = [Unavailable("the database is away")] * 2
    dry_run = service.command_bus.dry_run

    def fail_at_first(*given: Any) -> Any:
        if faults:
            raise faults.pop()
        return dry_run(*given)

    monkeypatch.setattr(service.command_bus, "dry_run", fail_at_first)
    producer.allocate("o1", "LAMP", 6, **DRY)
    producer.allocate("o1", "LAMP", 6)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [answer] = answers(redis_server)
    assert len(answer["data"]["events"]) == 1, "it came before the command behind it"

    faults.append(Unavailable("the database is away"))
    producer.allocate("o2", "LAMP", 1, **DRY)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    [(last, _)] = cast(Any, redis_server.xrevrange(COMMANDS, count=1))
    assert sql("SELECT entry_id FROM stream_positions") == [(last.decode(),)]


# --- the command line ----------------------------------------------------------------


def test_the_command_line_prints_what_would_happen(settings: Settings, service: Service, every_row: Any) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    service.bus.handle(Allocate("o1", "LAMP", 6))
    before = every_row()

    def typed(line: str) -> Result:
        return CliRunner(env=settings.as_environment({})).invoke(main, line.split())

    cut = typed("change-batch-quantity --batchref b1 --qty 3 --dry-run")
    in_json = typed("change-batch-quantity --batchref b1 --qty 3 --dry-run --json")
    unknown = typed("change-batch-quantity --batchref b9 --qty 3 --dry-run")
    again = typed("create-batch --ref b1 --sku LAMP --qty 10 --dry-run")
    short = typed("allocate --orderid o2 --sku LAMP --qty 60 --dry-run")

    assert every_row() == before
    assert cut.stdout.splitlines() == [
        "batch b1 holds 3 of LAMP now",
        "order o1 lost its 6 of LAMP from batch b1",
        "order o1 asked for 6 of LAMP: out of stock",
        "Recorded as version 3 of LAMP. (dry run: nothing was changed)",
    ]
    said = json.loads(in_json.stdout)
    assert (said["dry_run"], said["result"], said["changed"]) == (True, {"LAMP": 3}, True)
    assert [event["type"] for event in said["events"]][:2] == [
        "allocation.batch_quantity_changed.v1",
        "allocation.deallocated.v1",
    ]
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: Unknown batch b9\n")
    assert again.stdout == "Nothing has changed: it was so before. (dry run: nothing was changed)\n"
    assert (short.exit_code, short.stdout.splitlines()[-1]) == (0, "Out of stock. (dry run: nothing was changed)")


def test_each_command_of_the_command_line_has_a_dry_run() -> None:
    for name, command in commands().items():
        assert "dry_run" in [parameter.name for parameter in command.params], name
