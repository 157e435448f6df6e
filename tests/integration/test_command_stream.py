"""The stream `allocation.commands`: each message takes effect once, in order, whatever becomes of those who read it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from threading import Event, Thread
from typing import Any, TypeAlias, cast

import pytest
import redis
from tests.integration.threads import at_work

from allocation.adapters.redis_channels import COMMANDS
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain import commands
from allocation.entrypoints import inbound, redis_commands
from allocation.entrypoints.inbound import Unsettled, retry
from allocation.entrypoints.redis_commands import MOST_TRIES, run
from allocation.validation import ALLOCATE, SCHEMAS
from embedded.waiting import wait_for
from messaging.envelope import Position
from messaging.errors import ConcurrencyConflict, Unavailable
from messaging.redis.group import ConsumerGroup
from messaging.redis.replies import Replies
from messaging.sql.exclusive import ExclusiveBus, Occupied

Sql = Callable[..., list[tuple[Any, ...]]]
GROUP = "allocation"
PATIENCE = 20.0


@pytest.fixture
def redis_url(every_redis_url: str) -> str:
    return every_redis_url


@pytest.fixture(autouse=True)
def listens_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that is told to stop hears the stream out first."""
    monkeypatch.setattr(redis_commands, "_LISTEN", 0.05)


@pytest.fixture
def start_another(settings: Settings) -> Iterator[Callable[[], Service]]:
    """The same service in what would be another process."""
    with ExitStack() as clean_up:

        def start() -> Service:
            service = bootstrap(settings)
            clean_up.callback(service.close)
            group = service.command_group
            group._consumer = f"consumer-{random.randrange(10**9)}"  # as another process has
            return service

        yield start


class Producer:
    """Another system."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._number = 0

    def send(self, kind: str, data: dict[str, Any], **attributes: Any) -> dict[str, Any]:
        self._number += 1
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"m{self._number}",
            "source": "/shop",
            "type": f"allocation.{kind}.v1",
        }
        others = {name: attributes.pop(name) for name in ("replyto", "dry_run") if name in attributes}
        event |= {"data": data, **attributes}
        self.send_raw(json.dumps(event), **others)
        return event

    def send_raw(self, body: str | bytes, field: str = "command", **others: str) -> str:
        entry_id: bytes = self._client.xadd(COMMANDS, {field: body} | others)  # type: ignore[assignment, arg-type]
        return entry_id.decode()

    def create_batch(self, ref: str, sku: str, qty: int) -> dict[str, Any]:
        return self.send("create_batch", {"ref": ref, "sku": sku, "qty": qty})

    def allocate(self, orderid: str, sku: str, qty: int, **attributes: Any) -> dict[str, Any]:
        return self.send("allocate", {"orderid": orderid, "sku": sku, "qty": qty}, **attributes)

    def change_batch_quantity(self, ref: str, qty: int) -> dict[str, Any]:
        return self.send("change_batch_quantity", {"batchref": ref, "qty": qty})


@pytest.fixture
def producer(redis_server: redis.Redis) -> Producer:
    return Producer(redis_server)


def pending(redis_server: redis.Redis) -> int:
    return int(redis_server.xpending(COMMANDS, GROUP)["pending"])


def until_all_is_done(redis_server: redis.Redis) -> None:
    """Every message was read and acknowledged."""

    def done() -> bool:
        try:
            [group] = redis_server.xinfo_groups(COMMANDS)
        except (redis.ResponseError, ValueError):
            return False
        last: Any = redis_server.xrevrange(COMMANDS, count=1)
        return group["pending"] == 0 and (not last or group["last-delivered-id"] == last[0][0])

    assert wait_for(done, within=PATIENCE), "not all was handled and acknowledged"


def dead_letters(sql: Sql) -> list[tuple[str, int]]:
    return sql("SELECT reason, attempts FROM dead_letters WHERE source = 'allocation.commands' ORDER BY id")


def events(sql: Sql) -> list[str]:
    return [kind for (kind,) in sql("SELECT type FROM event_log ORDER BY position")]


# --- what is accepted --------------------------------------------------------


def test_all_three_commands_are_accepted_and_published_as_caused_by_their_message(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    producer.allocate("o1", "LAMP", 4, correlationid="order-7")
    producer.change_batch_quantity("b1", 3)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    kinds = ["batch_created", "allocated", "batch_quantity_changed", "deallocated", "out_of_stock"]
    assert events(sql) == [f"{kind}.v1" for kind in kinds]
    allocated = "SELECT correlation_id, causation_id, source FROM event_log WHERE version = 2"
    assert sql(allocated) == [("order-7", "m2", "/shop")]
    assert dead_letters(sql) == []


GOOD = {"specversion": "1.0", "id": "x", "source": "/shop", "type": "allocation.allocate.v1"}
BAD = {
    "not json": "invalid JSON",
    "[]": "not a CloudEvent: body: must be an object, not []",
    "{}": "not a CloudEvent: specversion: is missing",
    json.dumps(GOOD | {"specversion": "2.0", "data": {}}): "specversion",
    json.dumps(GOOD | {"id": "", "data": {}}): "not a CloudEvent: id",
    json.dumps(GOOD | {"id": 7, "data": {}}): "not a CloudEvent: id",
    json.dumps(GOOD | {"id": "a\0b", "data": {}}): "not a CloudEvent: id",
    json.dumps(GOOD | {"data": "text"}): "not a CloudEvent: data: must be an object, not 'text'",
    json.dumps(
        GOOD | {"type": "allocation.allocate.v99", "data": {}}
    ): "type: should be one of allocation.create_batch",
    json.dumps(GOOD | {"data": {"orderid": "o1", "sku": "LAMP"}}): "qty: is missing",
    json.dumps(GOOD | {"data": {"orderid": "o1", "sku": "LAMP", "qty": "5"}}): "qty: input should be a valid integer",
    json.dumps(GOOD | {"data": {"orderid": "o1", "sku": "NOWHERE", "qty": 5}}): "Invalid sku NOWHERE",
}


def test_what_can_not_be_read_or_is_refused_is_kept_and_the_rest_takes_effect(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    for body in BAD:
        producer.send_raw(body)
    producer.send_raw(b"{}", field="something else")
    producer.allocate("o1", "LAMP", 1)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    kept = dead_letters(sql)
    for (reason, attempts), expected in zip(kept, [*BAD.values()][:-1], strict=False):
        assert expected in reason
        assert attempts == 1
    assert {reason for reason, _ in kept} >= {"Invalid sku NOWHERE", "the entry was deleted, or has no field `command`"}
    assert len(kept) == len(BAD) + 1
    others = '{"something else": "{}"}'
    assert {bytes(body).decode() for (body,) in sql("SELECT body FROM dead_letters")} == {*BAD, others}
    assert events(sql) == ["batch_created.v1", "allocated.v1"]


TO_5000 = GOOD | {"type": "allocation.change_batch_quantity.v1", "data": {"batchref": "b1", "qty": 5_000}}
CREATED = GOOD | {"type": "allocation.create_batch.v1", "data": {"ref": "b1", "sku": "LAMP", "qty": 10}}


def test_a_field_that_is_nearly_one_that_we_know_is_refused(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """What is the sender's own stands in nobody's way."""
    near = dict.fromkeys(["dryrun", "DRY_RUN", "dry-run", "dry_run ", "dryRun", "dry_rum"], "dry_run")
    near |= dict.fromkeys(["reply_to", "replyTo", "Reply-To"], "replyto") | {"Command": "command"}
    for field in near:
        producer.send_raw(json.dumps(CREATED), replyto="shop.replies", **{field: "1"})
    producer.send_raw(json.dumps(CREATED), **{"x-trace": "1", "tenant": "2", "dr": "3"})

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    said = [f"{field}: is no known field; did you mean {meant}?" for field, meant in near.items()]
    assert dead_letters(sql) == [(one, 1) for one in said]
    assert events(sql) == ["batch_created.v1"]
    assert redis_server.xlen("shop.replies") == len(near)
    assert all(retry(service, letter) for letter in service.dead_letters.messages()), (
        "nor is it done when it is retried"
    )
    assert events(sql) == ["batch_created.v1"]


def test_a_field_for_the_command_that_is_misspelt_is_named(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    redis_server.xadd(COMMANDS, {"Command": json.dumps(CREATED)})

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert dead_letters(sql) == [("Command: is no known field; did you mean command?", 1)]


def test_a_dry_run_that_is_asked_for_in_the_message_is_refused(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """What else others put beside `data` is no matter."""
    for name in ("dryrun", "dry_run", "dry-run"):
        producer.send_raw(json.dumps(CREATED | {name: "1"}))
    producer.send_raw(json.dumps(CREATED | {"eta": "2031-01-01", "subject": "b", "priority": 3, "etag": "x"}))

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    said = "is a field of the stream's entry, beside the message"
    assert [reason for reason, _ in dead_letters(sql)] == [
        f"{name}: {said}" for name in ("dryrun", "dry_run", "dry-run")
    ]
    assert events(sql) == ["batch_created.v1"]


def test_an_entry_without_a_command_keeps_its_reason_and_its_content_when_it_is_tried_again(
    service: Service, redis_server: redis.Redis
) -> None:
    redis_server.xadd(COMMANDS, {"cmd": "allocate", "data": b"\xff"})
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    [letter] = service.dead_letters.messages()
    assert letter.body == rb'{"cmd": "allocate", "data": "\\xff"}'

    again = retry(service, letter)

    [kept] = service.dead_letters.messages()
    reason = "the entry was deleted, or has no field `command`"
    assert again
    assert (again.reason, kept.reason, kept.attempts) == (reason, reason, 2)


def test_a_command_of_a_newer_release_is_kept_until_that_release_handles_it(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    data = {"orderid": "o1", "sku": "LAMP", "qty": 1}
    producer.send_raw(json.dumps(GOOD | {"type": "allocation.allocate.v99", "data": data}))
    producer.allocate("o2", "LAMP", 1)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert events(sql) == ["batch_created.v1", "allocated.v1"], "others go on"
    [letter] = service.dead_letters.messages()
    assert "should be one of allocation.create_batch.v1" in letter.reason
    assert retry(service, letter), "not by this release"

    monkeypatch.setitem(SCHEMAS, "allocation.allocate.v99", ALLOCATE)
    assert retry(service, letter) is None
    assert service.dead_letters.messages() == []
    assert events(sql) == ["batch_created.v1", "allocated.v1", "allocated.v1"]


# --- once, and in order ------------------------------------------------------


def test_delivered_several_times_shuffled_and_by_several_consumers_each_message_has_one_effect(
    start_another: Callable[[], Service], producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    rng = random.Random(7)
    with ExitStack() as consumers:
        for _ in range(3):
            consumers.enter_context(at_work(partial(run, start_another())))
        producer.create_batch("b1", "LAMP", 1_000)
        until_all_is_done(redis_server)
        sent = [producer.allocate(f"o{number}", "LAMP", 1) for number in range(40)]
        again = [one for one in sent for _ in range(rng.randint(0, 4))]
        rng.shuffle(again)
        for one in again:
            producer.send_raw(json.dumps(one))
        until_all_is_done(redis_server)

    assert len(events(sql)) == 41
    assert sql("SELECT allocated_quantity FROM batches") == [(40,)]
    assert dead_letters(sql) == [], "a duplicate is no error"


def test_one_id_for_two_different_messages_is_refused(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    producer.allocate("o1", "LAMP", 1, id="same")
    producer.allocate("o2", "LAMP", 1, id="same")
    producer.allocate("o3", "LAMP", 1)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [(reason, _)] = dead_letters(sql)
    assert "was used before with another body" in reason
    assert sql("SELECT orderid FROM allocations_view ORDER BY position") == [("o1",), ("o3",)]


def test_messages_take_effect_in_the_order_sent_though_the_consumer_is_replaced_again_and_again(
    start_another: Callable[[], Service], producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 1_000)
    quantities = list(range(1, 121))
    sender = Thread(target=lambda: [producer.change_batch_quantity("b1", qty) for qty in quantities])
    sender.start()
    consumers = [start_another() for _ in range(3)]
    for consumer in consumers[:2]:
        with at_work(partial(run, consumer)):
            is_working = partial(goes_on, sql, len(events(sql)), sender)
            assert wait_for(is_working, within=PATIENCE)
    sender.join()
    with at_work(partial(run, consumers[2])):
        until_all_is_done(redis_server)

    said = sql("SELECT (data ->> 'qty')::int FROM event_log WHERE version > 1 ORDER BY version")
    assert [qty for (qty,) in said] == quantities


def goes_on(sql: Sql, since: int, sender: Thread) -> bool:
    return len(events(sql)) > since or not sender.is_alive()


def test_who_is_not_at_work_reads_nothing(
    start_another: Callable[[], Service],
    producer: Producer,
    redis_server: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, waiting = start_another(), start_another()
    looks: list[bool] = []
    is_ours = ExclusiveBus.is_ours

    def and_note(self: ExclusiveBus[Any]) -> bool:
        ours = is_ours(self)
        if self is waiting.command_bus:
            looks.append(ours)
        return ours

    monkeypatch.setattr(ExclusiveBus, "is_ours", and_note)
    with at_work(partial(run, reading)):
        producer.create_batch("b1", "LAMP", 10)
        until_all_is_done(redis_server)
        with at_work(partial(run, waiting)):
            assert wait_for(lambda: looks == [False, False], within=PATIENCE), "it looks, and looks again"

    consumers: Any = redis_server.xinfo_consumers(COMMANDS, GROUP)
    assert {consumer["name"] for consumer in consumers} == {reading.command_group._consumer.encode()}


# --- whoever dies ------------------------------------------------------------


def test_what_was_committed_but_not_acknowledged_is_read_again_and_has_no_second_effect(
    start_another: Callable[[], Service],
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dying, living = start_another(), start_another()
    producer.create_batch("b1", "LAMP", 10)
    producer.change_batch_quantity("b1", 5)
    producer.change_batch_quantity("b1", 6)
    committed, ended = Event(), Event()

    def die(self: ConsumerGroup, entries: object) -> None:
        committed.set()
        assert ended.wait(PATIENCE)
        raise Unavailable("it is dead")

    with monkeypatch.context() as patch:
        patch.setattr(ConsumerGroup, "acknowledge", die)
        with at_work(partial(run, dying)) as stop:
            assert committed.wait(PATIENCE)
            stop.set()
            ended.set()
    assert pending(redis_server) == 3

    with at_work(partial(run, living)):
        until_all_is_done(redis_server)

    assert events(sql) == ["batch_created.v1"] + ["batch_quantity_changed.v1"] * 2
    assert sql("SELECT purchased_quantity FROM batches") == [(6,)]
    names = {consumer["name"] for consumer in redis_server.xinfo_consumers(COMMANDS, GROUP)}
    assert names == {living.command_group._consumer.encode()}, "who has died is forgotten"


def test_what_was_read_but_not_handled_comes_first(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    producer.change_batch_quantity("b1", 5)
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    redis_server.xreadgroup(GROUP, "someone who has died", {COMMANDS: ">"})
    producer.change_batch_quantity("b1", 6)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert sql("SELECT data -> 'qty' FROM event_log WHERE version > 1 ORDER BY version") == [(5,), (6,)]


def test_taking_over_is_no_try(service: Service, producer: Producer, redis_server: redis.Redis) -> None:
    producer.send_raw("{}")
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    redis_server.xreadgroup(GROUP, "someone who has died", {COMMANDS: ">"})

    service.command_group.take_over()

    entry = service.command_group.first_pending()
    assert entry
    assert entry.tries == 2, "read by the one who has died, and by us"


def test_what_ends_every_consumer_is_a_dead_letter_after_some_tries(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    producer.change_batch_quantity("b1", 5)
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    for _ in range(MOST_TRIES):
        redis_server.xreadgroup(GROUP, "me", {COMMANDS: ">"})
        redis_server.xreadgroup(GROUP, "me", {COMMANDS: "0"})
    producer.change_batch_quantity("b1", 6)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [(reason, _)] = dead_letters(sql)
    assert "never acknowledged" in reason
    assert sql("SELECT purchased_quantity FROM batches") == [(6,)]


def test_what_meets_a_fault_in_the_program_is_tried_some_times_and_kept(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commands, "_PAUSE_AFTER_A_FAULT", 0.01)
    sql("ALTER TABLE batches ADD CONSTRAINT unexpected CHECK (purchased_quantity <> 7)")
    producer.send("create_batch", {"ref": "b1", "sku": "LAMP", "qty": 7}, replyto="shop.replies")
    producer.create_batch("b2", "LAMP", 8)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [(reason, attempts)] = dead_letters(sql)
    assert "unexpected" in reason
    assert attempts == MOST_TRIES
    assert [answer["data"]["refused"] for answer in answers(redis_server)] == ["/problems/internal-error"]
    assert sql("SELECT reference FROM batches") == [("b2",)]


def test_what_the_data_itself_stands_in_the_way_of_is_a_dead_letter_and_the_next_one_has_its_turn(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reference without its batch: the batch is not found, and can't be added."""
    monkeypatch.setattr(redis_commands, "_PAUSE_AFTER_A_FAULT", 0.01)
    monkeypatch.setattr(redis_commands, "MOST_TRIES", 2)  # each is a second and a half of conflicts
    sql("INSERT INTO batch_references VALUES ('b1', 'GHOST')")
    producer.create_batch("b1", "LAMP", 7)
    producer.create_batch("b2", "LAMP", 8)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [(reason, attempts)] = dead_letters(sql)
    assert "batch_references_pkey" in reason
    assert attempts == 2
    assert sql("SELECT reference FROM batches") == [("b2",)]


@pytest.mark.parametrize("sku", ["LAMP", "NOWHERE"], ids=["took effect", "was refused"])
def test_what_was_handled_but_never_acknowledged_keeps_its_first_outcome_however_often_it_was_read(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, sku: str
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    request = inbound.read(COMMANDS, json.dumps(producer.allocate("o1", sku, 3)).encode())
    service.bus.outcome(request.command, request.metadata, request.message_id)
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    redis_server.xreadgroup(GROUP, "me", {COMMANDS: ">"})
    for _ in range(MOST_TRIES):
        redis_server.xreadgroup(GROUP, "me", {COMMANDS: "0"})

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert [reason for reason, _ in dead_letters(sql)] == ([] if sku == "LAMP" else ["Invalid sku NOWHERE"])
    assert events(sql).count("allocated.v1") == (sku == "LAMP")


def test_a_dead_letter_that_could_not_be_kept_is_not_forgotten(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury = service.dead_letters.store
    faults: list[Exception] = [ConcurrencyConflict("a lock is not to be had"), Unavailable("no database")]

    def when_possible(**letter: Any) -> None:
        if faults:
            raise faults.pop()
        bury(**letter)

    monkeypatch.setattr(service.dead_letters, "store", when_possible)
    producer.send_raw("not json")

    with at_work(partial(run, service)):
        assert wait_for(lambda: not faults, within=PATIENCE)
        until_all_is_done(redis_server)

    assert len(dead_letters(sql)) == 1


@pytest.mark.parametrize("was_read", [False, True])
def test_who_was_replaced_can_not_let_a_message_take_effect_late(
    start_another: Callable[[], Service], producer: Producer, sql: Sql, was_read: bool
) -> None:
    replaced, another = start_another(), start_another()
    assert replaced.command_bus.is_ours()
    replaced.command_group.take_over()
    producer.create_batch("b1", "LAMP", 10)
    if was_read:
        replaced.command_group.new(1, 0.1)
    sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database IS NOT NULL")
    assert wait_for(another.command_bus.is_ours, within=PATIENCE)

    with pytest.raises(Occupied):
        redis_commands._work(replaced, Event())

    assert events(sql) == []


def test_who_was_replaced_leaves_the_group_as_another_has_it(
    start_another: Callable[[], Service], producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    replaced, another = start_another(), start_another()
    assert replaced.command_bus.is_ours()
    handled = redis_commands._take_over(replaced)
    sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database IS NOT NULL")
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, another)):
        until_all_is_done(redis_server)
        before: Any = redis_server.xinfo_groups(COMMANDS)
        with pytest.raises(Occupied):
            redis_commands._work(replaced, Event(), handled)
        after: Any = redis_server.xinfo_groups(COMMANDS)

    shown = ("pending", "last-delivered-id")
    assert [before[0][name] for name in shown] == [after[0][name] for name in shown]


@pytest.mark.parametrize("name", ["another", "our own"])
def test_what_another_client_takes_of_what_is_handled_is_not_pending_for_long(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, name: str
) -> None:
    """Nor what was pending when an older dump of the stream was taken, which is restored."""
    consumer = name if name == "another" else service.command_group._consumer
    with at_work(partial(run, service)):
        producer.create_batch("b1", "LAMP", 10)
        until_all_is_done(redis_server)
        entries: Any = redis_server.xrange(COMMANDS)
        redis_server.xclaim(COMMANDS, GROUP, consumer, 0, [entries[0][0]], force=True)

        assert wait_for(lambda: pending(redis_server) == 0, within=PATIENCE)

    assert events(sql) == ["batch_created.v1"]
    assert dead_letters(sql) == []


def test_a_consumer_that_starts_while_redis_is_full_goes_on(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """Else nobody trims what fills it."""
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    producer.change_batch_quantity("b1", 11)
    redis_server.config_set("maxmemory", 1)
    try:
        with at_work(partial(run, service)):
            until_all_is_done(redis_server)
    finally:
        redis_server.config_set("maxmemory", 0)

    assert quantities(sql) == [11]


@pytest.mark.parametrize(
    "harm",
    [
        lambda server: server.xgroup_destroy(COMMANDS, GROUP),
        lambda server: server.xgroup_setid(COMMANDS, GROUP, "0"),
        lambda server: server.xgroup_setid(COMMANDS, GROUP, "$"),
        lambda server: server.xgroup_createconsumer(COMMANDS, GROUP, "one that is gone"),
    ],
    ids=["lost", "set back", "set forward", "left"],
)
def test_whatever_the_group_is_like_what_was_handled_makes_room_in_a_full_redis(
    service: Service,
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    harm: Callable[[redis.Redis], object],
) -> None:
    for _ in range(300):
        producer.send_raw("x" * 4_000)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    age(redis_server, sql, days=13 / 24)
    producer.create_batch("b1", "LAMP", 10)
    harm(redis_server)
    redis_server.config_set("maxmemory", int(redis_server.info("memory")["used_memory"]) - 100_000)
    try:
        with at_work(partial(run, service)):
            assert wait_for(lambda: redis_server.xlen(COMMANDS) < 100, within=PATIENCE)
            assert wait_for(lambda: events(sql) == ["batch_created.v1"], within=PATIENCE)
            until_all_is_done(redis_server)
    finally:
        redis_server.config_set("maxmemory", 0)

    assert events(sql) == ["batch_created.v1"]
    assert len(dead_letters(sql)) == 300


def test_what_another_client_takes_is_not_pending_for_long_while_commands_come(
    service: Service, producer: Producer, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commands, "_TRIM_EVERY", 0.05)
    with at_work(partial(run, service)):
        producer.create_batch("b1", "LAMP", 10)
        until_all_is_done(redis_server)
        entries: Any = redis_server.xrange(COMMANDS)
        taken: Any = entries[0][0]
        redis_server.xclaim(COMMANDS, GROUP, service.command_group._consumer, 0, [taken], force=True)
        numbers = count()

        def is_settled() -> bool:
            producer.create_batch(f"c{next(numbers)}", "LAMP", 1)
            return not redis_server.xpending_range(COMMANDS, GROUP, taken, taken, 1)

        assert wait_for(is_settled, within=PATIENCE)


def test_what_was_deleted_before_it_was_handled_is_told(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    entry = producer.send_raw("{}")
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    redis_server.xreadgroup(GROUP, "someone who has died", {COMMANDS: ">"})
    redis_server.xdel(COMMANDS, entry)

    with at_work(partial(run, service)):
        assert wait_for(lambda: dead_letters(sql), within=PATIENCE)
        until_all_is_done(redis_server)

    assert sql("SELECT split_part(message_id, ' ', 1) FROM dead_letters") == [(entry,)]


def test_a_dead_letter_is_kept_once_though_it_is_buried_again(service: Service, sql: Sql) -> None:
    for _ in range(3):
        service.dead_letters.store(source=COMMANDS, message_id="1-1", body=b"x", reason="bad", attempts=2)

    assert sql("SELECT message_id, attempts FROM dead_letters") == [("1-1", 2)]


def test_a_backlog_is_handled_while_others_write_the_same_products(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """Fifty commands in one transaction would lose to them again and again."""
    for sku in "ABC":
        service.bus.handle(commands.CreateBatch(f"b{sku}", sku, 1_000_000))
    for number in range(60):
        producer.allocate(f"stream-{number}", "ABC"[number % 3], 1)
    stop = Event()

    def write(sku: str) -> None:
        number = 0
        while not stop.is_set():
            service.bus.handle(commands.Allocate(f"other-{sku}-{number}", sku, 1))
            number += 1

    others = [Thread(target=write, args=(sku,)) for sku in "ABC"]
    for other in others:
        other.start()
    try:
        with at_work(partial(run, service)):
            until_all_is_done(redis_server)
    finally:
        stop.set()
        for other in others:
            other.join()

    assert sql("SELECT count(*) FROM allocations_view WHERE orderid LIKE 'stream-%'") == [(60,)]
    assert dead_letters(sql) == []


def test_who_is_forgotten_has_nothing_pending(
    service: Service, producer: Producer, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was replaced, and does not know it, reads between the claim and the forgetting."""
    producer.send_raw("{}")
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    redis_server.xgroup_createconsumer(COMMANDS, GROUP, "idle")
    pending_entries = ConsumerGroup._pending

    def and_meanwhile(self: ConsumerGroup) -> Iterator[dict[str, Any]]:
        yield from pending_entries(self)
        redis_server.xreadgroup(GROUP, "late", {COMMANDS: ">"})

    monkeypatch.setattr(ConsumerGroup, "_pending", and_meanwhile)

    service.command_group.take_over()

    assert pending(redis_server) == 1, "not lost"
    consumers: Any = redis_server.xinfo_consumers(COMMANDS, GROUP)
    assert [consumer["name"] for consumer in consumers] == [b"late"]


@pytest.mark.parametrize("command", ["xinfo", "xgroup", "xclaim", "xpending", "xrange"])
def test_a_step_of_taking_over_that_is_refused_loses_nothing(
    service: Service, producer: Producer, redis_server: redis.Redis, command: str
) -> None:
    producer.send_raw("{}")
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    redis_server.xgroup_createconsumer(COMMANDS, GROUP, "idle")
    redis_server.xreadgroup(GROUP, "someone who has died", {COMMANDS: ">"})
    acl: Any = redis_server.execute_command
    acl("ACL", "SETUSER", "default", f"-{command}")
    try:
        with pytest.raises(Unavailable):
            service.command_group.take_over(Position(COMMANDS, "1-1", "of another stream"))
    finally:
        acl("ACL", "SETUSER", "default", "+@all")

    service.command_group.take_over()

    entry = service.command_group.first_pending()
    assert entry
    assert (entry.body, pending(redis_server)) == (b"{}", 1)


# --- surroundings ------------------------------------------------------------


def test_starts_anew_when_redis_has_forgotten_everything(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    with at_work(partial(run, service)):
        first = producer.create_batch("b1", "LAMP", 10)
        until_all_is_done(redis_server)
        redis_server.flushall()
        producer.send_raw(json.dumps(first))
        producer.allocate("o1", "LAMP", 1)

        assert wait_for(lambda: len(events(sql)) == 2, within=PATIENCE)
        until_all_is_done(redis_server)

    assert dead_letters(sql) == []


def test_waits_for_the_database_and_loses_nothing(
    service: Service,
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    database_away: Callable[[], AbstractContextManager[None]],
) -> None:
    with at_work(partial(run, service)):
        producer.create_batch("b1", "LAMP", 10)
        until_all_is_done(redis_server)
        with database_away():
            producer.allocate("o1", "LAMP", 1)
            producer.allocate("o2", "LAMP", 1)
        until_all_is_done(redis_server)

    assert events(sql) == ["batch_created.v1", "allocated.v1", "allocated.v1"]


def test_handled_messages_go_after_a_while_and_no_others(
    service: Service, producer: Producer, redis_server: redis.Redis
) -> None:
    for number in range(250):
        redis_server.xadd(COMMANDS, {"command": "{}"}, id=f"1-{number + 1}")
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    assert service.command_group.trim() == 0, "nobody has read them"

    entries = service.command_group.new(250, 0.1)
    assert service.command_group.trim() == 0, "they are not acknowledged"
    service.command_group.acknowledge(entries[:120])
    assert service.command_group.trim() == 100, "whole nodes only"
    service.command_group.acknowledge(entries[120:])
    producer.send_raw("{}")
    assert service.command_group.trim() >= 100


def test_all_that_is_old_goes_at_once_however_much_it_is(service: Service, redis_server: redis.Redis) -> None:
    """Redis itself lets go of ten thousand at a time."""
    with redis_server.pipeline(transaction=False) as pipeline:
        for number in range(25_000):
            pipeline.xadd(COMMANDS, {"command": "{}"}, id=f"1-{number + 1}")
        pipeline.execute()
    redis_server.xgroup_create(COMMANDS, GROUP, id="$")

    assert service.command_group.trim() > 20_000


def test_what_was_handled_last_stays_though_what_follows_has_waited_for_long(
    service: Service, redis_server: redis.Redis
) -> None:
    """By it a group that is lost is known to be of the same stream."""
    for number in range(200):
        redis_server.xadd(COMMANDS, {"command": "{}"}, id=f"1-{number + 1}")
    group = service.command_group
    group.take_over()
    entries = group.new(200, 0.1)
    group.acknowledge(entries[:100])
    handled = group.position_of(entries[99])

    assert group.trim(handled) == 0
    assert group.look_at(handled).is_intact
    assert group.trim() == 100, "else it goes with its node"


def test_a_refused_message_can_be_handled_after_all(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.allocate("o1", "LAMP", 1)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    [letter] = service.dead_letters.messages()
    assert retry(service, letter) == Unsettled("Invalid sku LAMP")
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    [letter] = service.dead_letters.messages()

    assert retry(service, letter) is None
    assert retry(service, letter) is None, "safe to repeat"

    assert events(sql) == ["batch_created.v1", "allocated.v1"]
    assert service.dead_letters.messages() == []


# --- a group that is lost, or set to another place ----------------------------


def age(redis_server: redis.Redis, sql: Sql, days: float = 3) -> None:
    """All that is in the stream, and all that is remembered of it, becomes older."""
    moved = int(days * 86_400_000)
    entries: Any = redis_server.xrange(COMMANDS)
    groups: Any = redis_server.xinfo_groups(COMMANDS)
    redis_server.delete(COMMANDS)
    for entry_id, fields in entries:
        redis_server.xadd(COMMANDS, fields, id=earlier(entry_id, moved))
    for group in groups:
        redis_server.xgroup_create(COMMANDS, group["name"], id=earlier(group["last-delivered-id"], moved))
    for (entry_id,) in sql("SELECT entry_id FROM stream_positions"):
        sql(f"UPDATE stream_positions SET entry_id = '{earlier(entry_id.encode(), moved)}'")
    sql(f"UPDATE inbox SET received_at = received_at - interval '{days} days'")


def earlier(entry_id: bytes, milliseconds: int) -> str:
    moment, _, number = entry_id.decode().partition("-")
    return f"{int(moment) - milliseconds}-{number}"


def handle_fifteen(service: Service, producer: Producer, redis_server: redis.Redis) -> None:
    """Commands: a batch, and its quantities from 11 to 24."""
    producer.create_batch("b1", "LAMP", 10)
    for qty in range(11, 25):
        producer.change_batch_quantity("b1", qty)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)


def quantities(sql: Sql) -> list[int]:
    found = sql("SELECT (data ->> 'qty')::int FROM event_log WHERE type = 'batch_quantity_changed.v1' ORDER BY version")
    return [qty for (qty,) in found]


LOSSES: dict[str, Callable[[redis.Redis], object]] = {
    "destroyed": lambda server: server.xgroup_destroy(COMMANDS, GROUP),
    "set back": lambda server: server.xgroup_setid(COMMANDS, GROUP, "0"),
    "set forward": lambda server: server.xgroup_setid(COMMANDS, GROUP, "$"),
    "made anew at the beginning": lambda server: (
        server.xgroup_destroy(COMMANDS, GROUP),
        server.xgroup_create(COMMANDS, GROUP, id="0"),
    ),
    "made anew at the end": lambda server: (
        server.xgroup_destroy(COMMANDS, GROUP),
        server.xgroup_create(COMMANDS, GROUP, id="$"),
    ),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_a_group_that_is_lost_or_moved_has_nothing_take_effect_again_and_passes_nothing_over(  # noqa: PLR0917 - its parameters
    service: Service,
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    caplog: pytest.LogCaptureFixture,
    lose: Callable[[redis.Redis], object],
) -> None:
    """Though all of it is older than outcomes are kept."""
    producer.create_batch("b1", "LAMP", 10)
    for qty in range(100, 140):
        producer.change_batch_quantity("b1", qty)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    age(redis_server, sql)
    assert service.housekeeping.forget_old_messages() == 41
    service.bus.handle(commands.ChangeBatchQuantity("b1", 5000))
    producer.change_batch_quantity("b1", 5001)

    lose(redis_server)
    with at_work(partial(run, service)):
        assert wait_for(lambda: quantities(sql)[-1] == 5001, within=PATIENCE)
        until_all_is_done(redis_server)

    assert quantities(sql) == [*range(100, 140), 5000, 5001]
    assert dead_letters(sql) == []
    assert not [said for said in caplog.messages if said.startswith("passed over")], "it is not even read again"


@pytest.mark.parametrize("lose", ["destroyed", "set back", "made anew at the beginning"])
def test_a_group_may_be_lost_or_set_back_under_the_eyes_of_a_consumer(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, lose: str
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    for qty in range(100, 140):
        producer.change_batch_quantity("b1", qty)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    age(redis_server, sql)
    assert service.housekeeping.forget_old_messages() == 41
    with at_work(partial(run, service)):
        producer.change_batch_quantity("b1", 5000)
        assert wait_for(lambda: quantities(sql)[-1] == 5000, within=PATIENCE)
        until_all_is_done(redis_server)

        LOSSES[lose](redis_server)
        producer.change_batch_quantity("b1", 5001)
        assert wait_for(lambda: quantities(sql)[-1] == 5001, within=PATIENCE)
        until_all_is_done(redis_server)

    assert quantities(sql) == [*range(100, 140), 5000, 5001]
    assert dead_letters(sql) == []


Move: TypeAlias = Callable[[redis.Redis, int], None]


def send_in(step: Any, qty: int) -> None:
    event = {"specversion": "1.0", "id": f"q{qty}", "source": "/shop", "type": "allocation.change_batch_quantity.v1"}
    step.xadd(COMMANDS, {"command": json.dumps(event | {"data": {"batchref": "b1", "qty": qty}})})


def send_and_move_ahead(server: redis.Redis, qty: int) -> None:
    """In one step: no consumer comes in between."""
    with server.pipeline() as step:
        send_in(step, qty)
        step.xgroup_setid(COMMANDS, GROUP, "$")
        step.execute()


def send_and_read_in_our_place(server: redis.Redis, qty: int) -> None:
    """Another client takes the entry, and needs not acknowledge it."""
    with server.pipeline() as step:
        send_in(step, qty)
        step.xreadgroup(GROUP, "another client", {COMMANDS: ">"}, noack=True)
        step.execute()


def move_far_ahead_and_send(server: redis.Redis, qty: int) -> None:
    server.xgroup_setid(COMMANDS, GROUP, "99999999999999-0")
    send_in(server, qty)


@pytest.mark.parametrize("move", [send_and_move_ahead, send_and_read_in_our_place, move_far_ahead_and_send])
@pytest.mark.parametrize("what_follows", [0, 2])
def test_what_a_group_was_moved_past_under_the_eyes_of_a_consumer_is_handled_in_its_turn(  # noqa: PLR0917 - its parameters
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, move: Move, what_follows: int
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
        move(redis_server, 100)
        for number in range(what_follows):
            producer.change_batch_quantity("b1", 101 + number)
        assert wait_for(lambda: len(quantities(sql)) == 1 + what_follows, within=PATIENCE)
        until_all_is_done(redis_server)

    assert quantities(sql) == [100, *range(101, 101 + what_follows)]
    assert dead_letters(sql) == []


def test_what_a_group_was_moved_past_is_handled_before_what_is_pending_behind_it(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """Also when the entry that was handled last is gone from the stream."""
    producer.create_batch("b1", "LAMP", 10)
    producer.change_batch_quantity("b1", 99)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    send_and_move_ahead(redis_server, 100)
    producer.change_batch_quantity("b1", 101)
    assert redis_server.xreadgroup(GROUP, "who died of it", {COMMANDS: ">"})

    with at_work(partial(run, service)):
        assert wait_for(lambda: len(quantities(sql)) == 3, within=PATIENCE)
        until_all_is_done(redis_server)
    assert quantities(sql) == [99, 100, 101]

    redis_server.xtrim(COMMANDS, maxlen=0, approximate=False)
    redis_server.xgroup_setid(COMMANDS, GROUP, "99999999999999-0")
    with at_work(partial(run, service)):
        producer.change_batch_quantity("b1", 102)
        assert wait_for(lambda: len(quantities(sql)) == 4, within=PATIENCE)
        until_all_is_done(redis_server)

    assert quantities(sql) == [99, 100, 101, 102]
    assert dead_letters(sql) == []


def test_the_first_command_of_all_may_be_skipped_too(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
        send_and_move_ahead(redis_server, 100)
        producer.change_batch_quantity("b1", 101)
        assert wait_for(lambda: quantities(sql) == [100, 101], within=PATIENCE)


def test_what_was_skipped_is_found_though_what_was_handled_last_is_gone(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    [(created, _)] = cast(list[Any], redis_server.xrevrange(COMMANDS, count=1))
    redis_server.xdel(COMMANDS, created)
    send_and_read_in_our_place(redis_server, 100)
    producer.change_batch_quantity("b1", 101)
    assert redis_server.xreadgroup(GROUP, "who died of it", {COMMANDS: ">"})
    producer.change_batch_quantity("b1", 102)

    with at_work(partial(run, service)):
        assert wait_for(lambda: len(quantities(sql)) == 3, within=PATIENCE)

    assert quantities(sql) == [100, 101, 102]


@pytest.mark.parametrize("take", ["acknowledged", "claimed"])
def test_what_others_take_of_what_is_pending_is_handled_in_its_turn(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, take: str
) -> None:
    """While the first of them is at work."""
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    for qty in range(100, 105):
        producer.change_batch_quantity("b1", qty)
    _, *others, _, _ = service.command_group.new(5, 1.0)
    ids = [one.id for one in others]
    taken: list[object] = []

    def take_them() -> None:
        if not taken:
            taken.append(
                redis_server.xack(COMMANDS, GROUP, *ids)
                if take == "acknowledged"
                else redis_server.xclaim(COMMANDS, GROUP, "another", 0, ids)  # type: ignore[arg-type]
            )

    handle = service.command_bus.handle_together

    def handle_meanwhile(requests: Any) -> Any:
        take_them()
        return handle(requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.command_bus, "handle_together", handle_meanwhile)
        with at_work(partial(run, service)):
            assert wait_for(lambda: len(quantities(sql)) == 5, within=PATIENCE)
            until_all_is_done(redis_server)

    assert quantities(sql) == [100, 101, 102, 103, 104]
    assert dead_letters(sql) == []


def test_what_ends_every_consumer_is_a_dead_letter_though_others_read_in_the_group(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """It keeps its tries when what was skipped is read."""
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    producer.change_batch_quantity("b1", 100)
    handled = service.command_bus.position(COMMANDS)
    assert handled
    assert len(service.command_group.new(1, 1.0)) == 1

    tries = []
    for qty in range(101, 105):
        send_and_read_in_our_place(redis_server, qty)
        service.command_group.take_over(handled)
        entry = service.command_group.first_pending()
        assert entry
        tries.append(entry.tries)

    assert tries == [2, 3, 4, 5]
    with at_work(partial(run, service)):
        assert wait_for(lambda: quantities(sql) == [101, 102, 103, 104], within=PATIENCE)
    assert len(dead_letters(sql)) == 1


def test_a_group_that_goes_back_loses_no_trace_of_what_was_deleted_while_it_was_pending(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    for qty in (100, 101):
        producer.change_batch_quantity("b1", qty)
    _, deleted = service.command_group.new(2, 1.0)
    redis_server.xdel(COMMANDS, deleted.id)
    send_and_move_ahead(redis_server, 102)

    with at_work(partial(run, service)):
        assert wait_for(lambda: quantities(sql) == [100, 102], within=PATIENCE)
        until_all_is_done(redis_server)

    [(reason, _)] = dead_letters(sql)
    assert "deleted" in reason


def test_what_was_pending_is_handled_once_and_answered_once(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """It is not taken for something that the group has skipped."""
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    data = {"batchref": "b1", "qty": 100}
    producer.send("change_batch_quantity", data, replyto="shop.replies")
    assert len(service.command_group.new(1, 1.0)) == 1

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
        producer.change_batch_quantity("b1", 101)
        assert wait_for(lambda: quantities(sql) == [100, 101], within=PATIENCE)
        until_all_is_done(redis_server)

    assert redis_server.xlen("shop.replies") == 1


@pytest.mark.parametrize("entry_id", ["", "1-2-3", "9" * 24 + "-0"])
def test_a_position_that_is_damaged_is_said_and_stands_in_nobody_s_way(  # noqa: PLR0917 - its parameters
    service: Service,
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    caplog: pytest.LogCaptureFixture,
    entry_id: str,
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    service.engine.dispose()
    sql(f"UPDATE stream_positions SET entry_id = '{entry_id}'")
    producer.change_batch_quantity("b1", 9)

    with at_work(partial(run, service)):
        assert wait_for(lambda: quantities(sql) == [9], within=PATIENCE)
        until_all_is_done(redis_server)

    assert "how far the stream is handled is not known" in caplog.messages
    last: Any = redis_server.xrevrange(COMMANDS, count=1)
    assert sql("SELECT entry_id FROM stream_positions") == [(last[0][0].decode(),)]


@pytest.mark.parametrize("answered", ["''", "'abc'", f"'{'9' * 19}-0'", "NULL"])
def test_where_it_is_damaged_how_far_the_stream_was_answered_the_rest_is_handled_all_the_same(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, answered: str
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    service.engine.dispose()
    sql(f"UPDATE stream_positions SET answered = {answered}")
    redis_server.xgroup_destroy(COMMANDS, GROUP)
    producer.change_batch_quantity("b1", 9)

    with at_work(partial(run, service)):
        assert wait_for(lambda: quantities(sql) == [9], within=PATIENCE)
        until_all_is_done(redis_server)


def test_after_an_older_release_was_at_work_nothing_is_answered_again(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """It writes how far the stream is handled, and not how far it is answered."""
    for number in range(3):
        producer.send("create_batch", {"ref": f"b{number}", "sku": "LAMP", "qty": 1}, replyto="shop.replies")
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    first: Any = redis_server.xrange(COMMANDS, count=1)
    sql(f"UPDATE stream_positions SET answered = '{first[0][0].decode()}', as_of = '{first[0][0].decode()}'")

    with at_work(partial(run, service)):
        producer.create_batch("later", "LAMP", 1)
        until_all_is_done(redis_server)

    assert len(answers(redis_server)) == 3


def test_what_was_given_up_stays_so_when_the_group_is_lost(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commands, "_PAUSE_AFTER_A_FAULT", 0.01)
    sql("ALTER TABLE batches ADD CONSTRAINT unexpected CHECK (purchased_quantity <> 7)")
    producer.create_batch("b1", "LAMP", 7)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    [letter] = service.dead_letters.messages()
    sql("ALTER TABLE batches DROP CONSTRAINT unexpected")
    service.dead_letters.resolve(letter)

    redis_server.xgroup_destroy(COMMANDS, GROUP)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert events(sql) == []
    assert dead_letters(sql) == []


def test_of_an_older_stream_what_is_known_has_no_second_effect_and_what_nobody_knows_any_more_is_a_dead_letter(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """An old dump: the stream ends before what was handled last."""
    producer.create_batch("b1", "LAMP", 10)
    for qty in (11, 12):
        producer.change_batch_quantity("b1", qty)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    age(redis_server, sql)
    service.housekeeping.forget_old_messages()
    for qty in (13, 14, 15):
        producer.change_batch_quantity("b1", qty)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    entries: Any = redis_server.xrange(COMMANDS)
    last = entries[-1][0]
    redis_server.xdel(COMMANDS, last)

    redis_server.xgroup_setid(COMMANDS, GROUP, "0")
    producer.change_batch_quantity("b1", 16)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert quantities(sql) == [11, 12, 13, 14, 15, 16]
    assert [reason for reason, _ in dead_letters(sql)] == [
        "nobody knows any more whether it was handled: the stream is another than it was"
    ] * 3


@pytest.mark.parametrize("under_its_eyes", [False, True])
def test_of_an_old_stream_that_somebody_has_made_anew_with_other_ids_nothing_has_a_second_effect(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, under_its_eyes: bool
) -> None:
    """Nobody knows what of it was handled; what is sent after that is."""
    handle_fifteen(service, producer, redis_server)
    age(redis_server, sql)
    service.housekeeping.forget_old_messages()

    def make_anew() -> None:
        entries: Any = redis_server.xrange(COMMANDS)
        with redis_server.pipeline(transaction=True) as at_once:
            at_once.delete(COMMANDS)
            for entry_id, fields in entries:
                at_once.xadd(COMMANDS, fields, id=earlier(entry_id, -1_000))
            at_once.xadd(COMMANDS, {"command": "{"}, id=earlier(entries[-1][0], -2_000))
            at_once.xadd(COMMANDS, entries[-2][1], id=earlier(entries[-1][0], -3_000))
            at_once.execute()

    if not under_its_eyes:
        make_anew()
    with at_work(partial(run, service)):
        if under_its_eyes:
            assert wait_for(lambda: redis_server.xinfo_consumers(COMMANDS, GROUP), within=PATIENCE)
            make_anew()
        assert wait_for(lambda: len(dead_letters(sql)) == 17, within=PATIENCE)
        producer.change_batch_quantity("b1", 5_000)
        until_all_is_done(redis_server)

    assert quantities(sql) == [*range(11, 25), 5_000]
    assert [reason for reason, _ in dead_letters(sql) if "invalid JSON" not in reason] == [
        "nobody knows any more whether it was handled: the stream is another than it was"
    ] * 16


def be_forgotten(service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql) -> None:
    """Fifteen commands are handled, and a day later the inbox knows nothing of them."""
    handle_fifteen(service, producer, redis_server)
    age(redis_server, sql, days=25 / 24)
    service.housekeeping.forget_old_messages()


def make_anew(redis_server: redis.Redis) -> None:
    """The same entries, each a second later."""
    entries: Any = redis_server.xrange(COMMANDS)
    with redis_server.pipeline(transaction=True) as at_once:
        at_once.delete(COMMANDS)
        for entry_id, fields in entries:
            at_once.xadd(COMMANDS, fields, id=earlier(entry_id, -1_000))
        at_once.execute()


@pytest.mark.parametrize("hours", [14, -14], ids=["ahead", "behind"])
def test_by_the_clock_of_the_consumer_no_command_is_old_or_young(  # noqa: PLR0917 - its parameters
    service: Service,
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
    hours: int,
) -> None:
    """The ids are of another clock: what it does not know any more has no second effect, and what is new has one."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + hours * 3_600)
    be_forgotten(service, producer, redis_server, sql)
    make_anew(redis_server)

    with at_work(partial(run, service)):
        assert wait_for(lambda: len(dead_letters(sql)) == 15, within=PATIENCE)
        last: Any = redis_server.xrevrange(COMMANDS, count=1)
        redis_server.xdel(COMMANDS, last[0][0])
        for qty in (5_000, 5_001):
            producer.change_batch_quantity("b1", qty)
        until_all_is_done(redis_server)

    assert quantities(sql) == [*range(11, 25), 5_000, 5_001]
    assert len(dead_letters(sql)) == 15


def test_a_stream_that_is_made_anew_in_parts_is_in_doubt_until_something_young_has_come(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """As by a tool that restores it, and stops in between."""
    be_forgotten(service, producer, redis_server, sql)
    entries: Any = redis_server.xrange(COMMANDS)
    redis_server.delete(COMMANDS)

    with at_work(partial(run, service)):
        for part in (entries[:8], entries[8:]):
            for entry_id, fields in part:
                redis_server.xadd(COMMANDS, fields, id=earlier(entry_id, -1_000))
            assert wait_for(lambda: is_all_answered(sql), within=PATIENCE)
            until_all_is_done(redis_server)
        producer.change_batch_quantity("b1", 5_000)
        until_all_is_done(redis_server)

    assert quantities(sql) == [*range(11, 25), 5_000]
    assert len(dead_letters(sql)) == 15


def test_what_is_known_in_a_stream_that_was_made_anew_does_not_vouch_for_what_comes_after_it(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """The consumer stops in the middle of it, and the inbox forgets the rest."""
    handle_fifteen(service, producer, redis_server)
    entries: Any = redis_server.xrange(COMMANDS)
    redis_server.delete(COMMANDS)
    for entry_id, fields in entries[:8]:
        redis_server.xadd(COMMANDS, fields, id=earlier(entry_id, -1_000))
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    for entry_id, fields in entries[8:]:
        redis_server.xadd(COMMANDS, fields, id=earlier(entry_id, -1_000))
    age(redis_server, sql, days=25 / 24)
    service.housekeeping.forget_old_messages()

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
        producer.change_batch_quantity("b1", 5_000)
        until_all_is_done(redis_server)

    assert quantities(sql) == [*range(11, 25), 5_000]
    assert len(dead_letters(sql)) == 7


def test_a_command_with_a_lower_id_does_not_vouch_for_what_was_handled_above_it(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of Redis has led elsewhere for a while, and days later somebody copies what was handled there."""
    handle_fifteen(service, producer, redis_server)
    entries: Any = redis_server.xrange(COMMANDS)
    redis_server.delete(COMMANDS)
    redis_server.xadd(COMMANDS, {"command": json.dumps(TO_5000)}, id=earlier(entries[0][0], 1_000))
    with monkeypatch.context() as killed:
        killed.setattr(redis_commands, "_all_is_answered", lambda _, handled: handled)
        with at_work(partial(run, service)):
            until_all_is_done(redis_server)
    age(redis_server, sql, days=25 / 24)
    service.housekeeping.forget_old_messages()
    for entry_id, fields in entries[:-1]:
        redis_server.xadd(COMMANDS, fields, id=earlier(entry_id, 90_000_000))

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
        producer.change_batch_quantity("b1", 5_001)
        until_all_is_done(redis_server)

    assert quantities(sql) == [*range(11, 25), 5_000, 5_001]
    assert len(dead_letters(sql)) == 14


@pytest.mark.parametrize("others", [{}, {"dry_run": "1"}], ids=["in earnest", "a dry run"])
def test_what_is_in_doubt_is_answered(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, others: dict[str, str]
) -> None:
    """A dry run has no effect, so none twice."""
    be_forgotten(service, producer, redis_server, sql)
    producer.send_raw(json.dumps(TO_5000), replyto="shop.replies", **others)
    age(redis_server, sql, days=13 / 24)
    redis_server.xdel(COMMANDS, sql("SELECT entry_id FROM stream_positions")[0][0])

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [answer] = answers(redis_server)
    if others:
        assert answer["data"]["dry_run"] is True
        assert "refused" not in answer["data"]
    else:
        assert "nobody knows any more whether it was handled" in answer["data"]["because"]
    assert len(dead_letters(sql)) == (0 if others else 1)
    assert quantities(sql) == [*range(11, 25)]


def test_of_two_commands_with_one_id_that_can_not_be_handled_both_are_kept(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """Redis had lost the first one, or a mirror gives the ids."""
    for body in ("{1", "{2"):
        redis_server.delete(COMMANDS)
        redis_server.xadd(COMMANDS, {"command": body}, id="1-1")
        for _ in range(2):
            with at_work(partial(run, service)):
                until_all_is_done(redis_server)
            redis_server.xgroup_destroy(COMMANDS, GROUP)

    assert [bytes(body) for (body,) in sql("SELECT body FROM dead_letters ORDER BY id")] == [b"{1", b"{2"]


def test_what_waited_for_days_takes_effect(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """Before any consumer was ever started, and while there was none."""
    for qty in (11, 12):
        producer.create_batch(f"b{qty}", "LAMP", 10)
        producer.change_batch_quantity(f"b{qty}", qty)
        age(redis_server, sql)
        with at_work(partial(run, service)):
            until_all_is_done(redis_server)

    assert quantities(sql) == [11, 12]
    assert dead_letters(sql) == []


def test_a_stream_made_anew_with_lower_ids_is_handled_from_its_beginning(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    """The clock of Redis was ahead when it lost it."""
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    age(redis_server, sql, days=-8)
    redis_server.delete(COMMANDS)

    for qty in (11, 12, 13):
        producer.change_batch_quantity("b1", qty)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert quantities(sql) == [11, 12, 13]
    assert dead_letters(sql) == []


def test_a_group_that_is_lost_after_the_stream_was_made_anew_goes_on_in_the_new_one(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commands, "_all_is_answered", lambda _, handled: handled)  # as if killed before
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    age(redis_server, sql, days=-8)
    redis_server.delete(COMMANDS)
    producer.change_batch_quantity("b1", 11)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    redis_server.xgroup_destroy(COMMANDS, GROUP)
    for qty in (12, 13):
        producer.change_batch_quantity("b1", qty)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert quantities(sql) == [11, 12, 13]


def test_a_position_that_no_release_has_kept_is_taken_from_the_group(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    producer.change_batch_quantity("b1", 11)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    sql("DELETE FROM stream_positions")
    with at_work(partial(run, service)):
        assert wait_for(lambda: sql("SELECT stream FROM stream_positions") == [(COMMANDS,)], within=PATIENCE)
    sql("DELETE FROM inbox")

    redis_server.xgroup_destroy(COMMANDS, GROUP)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert quantities(sql) == [11]


def test_how_far_the_stream_is_handled_is_committed_with_what_was_handled(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commands, "_all_is_answered", lambda _, handled: handled)
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    entries: Any = redis_server.xrange(COMMANDS)

    assert sql("SELECT entry_id FROM stream_positions") == [(entries[-1][0].decode(),)]
    assert sql("SELECT (SELECT xmin FROM stream_positions)::text = (SELECT xmin FROM inbox)::text") == [(True,)]


def test_how_far_the_stream_is_handled_counts_what_was_repeated_refused_and_unreadable_too(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    changed = producer.change_batch_quantity("b1", 11)
    for body in (json.dumps(changed), "not json"):
        producer.send_raw(body)
        with at_work(partial(run, service)):
            until_all_is_done(redis_server)
        entries: Any = redis_server.xrange(COMMANDS)
        assert sql("SELECT entry_id FROM stream_positions") == [(entries[-1][0].decode(),)]


class Killed(BaseException):
    pass


def be_killed(*_: object, **__: object) -> None:
    raise Killed


def destroy_the_group(redis_server: redis.Redis) -> None:
    redis_server.xgroup_destroy(COMMANDS, GROUP)


def delete_its_consumers(redis_server: redis.Redis) -> None:
    consumers: Any = redis_server.xinfo_consumers(COMMANDS, GROUP)
    for consumer in consumers:
        redis_server.xgroup_delconsumer(COMMANDS, GROUP, consumer["name"])


@pytest.mark.parametrize("forget", [destroy_the_group, delete_its_consumers])
@pytest.mark.parametrize("is_the_first", [True, False])
def test_what_was_handled_is_kept_and_answered_though_redis_forgets_that_it_is_pending(  # noqa: PLR0917 - its parameters
    start_another: Callable[[], Service],
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[redis.Redis], None],
    *,
    is_the_first: bool,
) -> None:
    if not is_the_first:
        producer.create_batch("b0", "LAMP", 1)
        with at_work(partial(run, start_another())):
            until_all_is_done(redis_server)
    producer.send("create_batch", {"ref": "b1", "sku": "LAMP", "qty": 10}, replyto="shop.replies")
    producer.send("allocate", {"orderid": "o1", "sku": "NOWHERE", "qty": 3}, replyto="shop.replies")
    producer.send_raw("not json", replyto="shop.replies")
    producer.send("create_batch", {"ref": "b2", "sku": "LAMP", "qty": 10}, replyto="shop.replies")
    first = start_another()
    monkeypatch.setattr(first.dead_letters, "store", be_killed)
    with pytest.raises(Killed):
        run(first, Event())
    assert events(sql).count("batch_created.v1") == 2 + (not is_the_first)

    forget(redis_server)
    with at_work(partial(run, start_another())):
        until_all_is_done(redis_server)
        assert wait_for(lambda: len(answers(redis_server)) == 4 and is_all_answered(sql), within=PATIENCE)

    assert len(dead_letters(sql)) == 2
    assert events(sql).count("batch_created.v1") == 2 + (not is_the_first)
    with at_work(partial(run, start_another())):
        producer.create_batch("b3", "LAMP", 1)
        until_all_is_done(redis_server)
    assert len(answers(redis_server)) == 4, "nothing is answered again by whoever takes over later"


def test_what_is_deleted_after_it_was_handled_is_no_dead_letter(
    start_another: Callable[[], Service],
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    first = start_another()
    monkeypatch.setattr(first.command_group, "acknowledge", be_killed)
    with pytest.raises(Killed):
        run(first, Event())
    redis_server.xtrim(COMMANDS, maxlen=0, approximate=False)

    producer.create_batch("b2", "LAMP", 10)
    with at_work(partial(run, start_another())):
        until_all_is_done(redis_server)

    assert dead_letters(sql) == []
    assert events(sql) == ["batch_created.v1"] * 2


def test_what_is_deleted_while_another_has_it_is_told(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commands, "_TRIM_EVERY", 0.05)
    with at_work(partial(run, service)):
        producer.create_batch("b1", "LAMP", 10)
        until_all_is_done(redis_server)
        with redis_server.pipeline(transaction=True) as at_once:
            at_once.xadd(COMMANDS, {"command": json.dumps(CREATED)})
            at_once.xreadgroup(GROUP, "another", {COMMANDS: ">"})
            at_once.xtrim(COMMANDS, maxlen=0, approximate=False)
            at_once.execute()

        assert wait_for(lambda: dead_letters(sql), within=PATIENCE)
        assert wait_for(lambda: pending(redis_server) == 0, within=PATIENCE)


def is_all_answered(sql: Sql) -> bool:
    return sql("SELECT entry_id <> '0-0' AND answered = entry_id FROM stream_positions") == [(True,)]


def test_who_has_nothing_to_do_notes_that_all_is_answered(service: Service, producer: Producer, sql: Sql) -> None:
    producer.create_batch("b1", "LAMP", 10)
    with at_work(partial(run, service)):
        assert wait_for(lambda: is_all_answered(sql), within=PATIENCE)


def test_who_is_stopped_notes_that_all_is_answered(
    service: Service, producer: Producer, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    stop, acknowledge = Event(), service.command_group.acknowledge

    def acknowledge_and_stop(entries: Any) -> None:
        acknowledge(entries)
        stop.set()

    monkeypatch.setattr(service.command_group, "acknowledge", acknowledge_and_stop)
    run(service, stop)

    assert is_all_answered(sql)


# --- answers ---------------------------------------------------------------------


def answers(redis_server: redis.Redis, stream: str = "shop.replies") -> list[dict[str, Any]]:
    found: Any = redis_server.xrange(stream)
    return [json.loads(fields[b"event"]) for _, fields in found]


def test_who_says_where_is_told_how_each_command_ended(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    long = "m" * 255
    producer.send("create_batch", {"ref": "b1", "sku": "LAMP", "qty": 10}, replyto="shop.replies")
    producer.send("allocate", {"orderid": "o1", "sku": "LAMP", "qty": 3}, replyto="shop.replies", correlationid="c")
    producer.send("allocate", {"orderid": "o2", "sku": "LAMP", "qty": 30}, replyto="shop.replies")
    producer.send("allocate", {"orderid": "o3", "sku": "SOFA", "qty": 1}, replyto="shop.replies", id=long)
    producer.send("cancel_order", {"orderid": "o9"}, replyto="shop.replies")
    producer.send("allocate", {"orderid": "o4", "sku": "LAMP", "qty": 0}, replyto="shop.replies")
    producer.send("allocate", {"orderid": "o5", "sku": "LAMP", "qty": 1})

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    found = answers(redis_server)
    by_command = {answer["causationid"]: answer for answer in found}
    assert len(found) == 6
    assert {answer["type"] for answer in found} == {"allocation.outcome.v1"}
    assert by_command["m1"]["data"] == {"command": "m1", "result": None}
    assert by_command["m2"]["data"] == {"command": "m2", "result": "b1"}
    assert (by_command["m2"]["id"], by_command["m2"]["correlationid"]) == ("m2:outcome", "c")
    assert by_command["m3"]["data"] == {"command": "m3", "result": None}
    assert by_command[long]["data"] == {
        "command": long,
        "refused": "/problems/unknown-sku",
        "because": "Invalid sku SOFA",
    }
    assert len(by_command[long]["id"]) < 100
    assert by_command["m5"]["data"]["refused"] == "/problems/not-found"
    assert by_command["m6"]["data"]["refused"] == "/problems/invalid-values"
    assert "qty" in by_command["m6"]["data"]["because"]
    assert sql("SELECT count(*) FROM dead_letters") == [(3,)]


def test_the_answer_to_a_command_that_was_not_acknowledged_comes_again_with_its_id(
    service: Service, producer: Producer, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.create_batch("b1", "LAMP", 10)
    producer.send("allocate", {"orderid": "o1", "sku": "LAMP", "qty": 3}, replyto="shop.replies")
    acknowledge = ConsumerGroup.acknowledge
    failures = [Unavailable("redis is gone")]

    def fail_once(self: ConsumerGroup, entries: Any) -> None:
        if failures:
            raise failures.pop()
        acknowledge(self, entries)

    monkeypatch.setattr(ConsumerGroup, "acknowledge", fail_once)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    first, again = answers(redis_server)
    assert (
        (first["id"], first["data"])
        == (again["id"], again["data"])
        == ("m2:outcome", {"command": "m2", "result": "b1"})
    )


@pytest.mark.parametrize(
    "stream", ["allocation.events", "shop", "other.replies", "SHOP.replies", "a" * 90 + ".replies"]
)
def test_nobody_is_answered_where_that_is_not_allowed_and_nothing_is_held_up(
    settings: Settings, producer: Producer, redis_server: redis.Redis, stream: str
) -> None:
    counted: list[int] = []
    service = bootstrap(replace(settings, reply_streams=("shop.*", "wms.replies")))
    service.replies.given_up = lambda: counted.append(1)
    producer.send("create_batch", {"ref": "b1", "sku": "LAMP", "qty": 10}, replyto=stream)
    producer.send("allocate", {"orderid": "o1", "sku": "LAMP", "qty": 3}, replyto="shop.replies")

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)
    service.close()

    assert redis_server.exists(stream) == 0
    assert counted == [1]
    assert [answer["data"]["result"] for answer in answers(redis_server)] == ["b1"]


def test_an_answer_for_which_redis_has_no_room_waits_for_it(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    producer.create_batch("b0", "LAMP", 10)
    try:
        with at_work(partial(run, service)):
            until_all_is_done(redis_server)
            with redis_server.pipeline() as step:
                for number in range(3):
                    command = CREATED | {"id": f"r{number}", "data": {"ref": f"r{number}", "sku": "LAMP", "qty": 10}}
                    step.xadd(COMMANDS, {"command": json.dumps(command), "replyto": "shop.replies"})
                step.config_set("maxmemory", 1)
                step.execute()
            assert wait_for(lambda: len(events(sql)) == 4, within=PATIENCE)
            assert pending(redis_server) == 3, "they are not done before they are answered"
            redis_server.config_set("maxmemory", 0)
            until_all_is_done(redis_server)
    finally:
        redis_server.config_set("maxmemory", 0)

    assert redis_server.xlen("shop.replies") == 3
    assert len(events(sql)) == 4


def test_room_for_an_answer_is_made_by_what_is_old(
    service: Service, producer: Producer, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    trim, trims = service.command_group.trim, list[object]()

    def count(handled: Position | None = None) -> int:
        trims.append(handled)
        return trim(handled)

    monkeypatch.setattr(service.command_group, "trim", count)
    producer.create_batch("b0", "LAMP", 1)
    try:
        with at_work(partial(run, service)):
            until_all_is_done(redis_server)
            assert len(trims) == 1
            with redis_server.pipeline() as step:
                step.xadd(COMMANDS, {"command": json.dumps(CREATED), "replyto": "shop.replies"})
                step.config_set("maxmemory", 1)
                step.execute()
            assert wait_for(lambda: len(trims) > 1, within=PATIENCE)
            redis_server.config_set("maxmemory", 0)
            until_all_is_done(redis_server)
    finally:
        redis_server.config_set("maxmemory", 0)

    assert redis_server.xlen("shop.replies") == 1


def test_room_for_an_answer_is_made_by_old_answers(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql
) -> None:
    old = int(redis_server.time()[0] - 14 * 3_600) * 1_000
    producer.create_batch("b0", "LAMP", 1)
    try:
        with at_work(partial(run, service)):
            until_all_is_done(redis_server)
            with redis_server.pipeline() as step:
                for number in range(3_000):
                    step.xadd("shop.replies", {"event": "x" * 400}, id=f"{old}-{number + 1}")
                step.execute()
            used = int(redis_server.info("memory")["used_memory"])
            with redis_server.pipeline() as step:
                step.xadd(COMMANDS, {"command": json.dumps(CREATED), "replyto": "shop.replies"})
                step.config_set("maxmemory", used - 100_000)
                step.execute()
            until_all_is_done(redis_server)
    finally:
        redis_server.config_set("maxmemory", 0)

    assert redis_server.xlen("shop.replies") < 200


def test_an_answer_that_redis_refuses_is_given_up(
    service: Service, producer: Producer, redis_server: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.set("shop.replies", "of another type")
    producer.send("create_batch", {"ref": "b1", "sku": "LAMP", "qty": 10}, replyto="shop.replies")
    producer.create_batch("b2", "LAMP", 10)

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [said] = [record for record in caplog.records if record.message == "no reply was sent"]
    assert "WRONGTYPE" in said.error  # type: ignore[attr-defined]
    assert service.views.batch("b2")


def test_an_answer_that_redis_refuses_for_a_moment_is_not_given_up(service: Service, redis_server: redis.Redis) -> None:
    counted: list[int] = []
    replies = Replies(service.redis, ["*.replies"], timedelta(days=1), lambda: counted.append(1))
    redis_server.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(Unavailable, match="NOREPLICAS"):
            replies.send(b"shop.replies", b"{}")
    finally:
        redis_server.config_set("min-replicas-to-write", 0)

    replies.send(b"shop.replies", b"{}")

    assert counted == []
    assert redis_server.xlen("shop.replies") == 1


@pytest.mark.parametrize("dry_run", [{}, {"dry_run": "1"}], ids=["in earnest", "a dry run"])
def test_what_was_read_too_often_is_answered_and_done(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, dry_run: dict[str, str]
) -> None:
    producer.send("create_batch", {"ref": "b1", "sku": "LAMP", "qty": 10}, replyto="shop.replies", **dry_run)
    redis_server.xgroup_create(COMMANDS, GROUP, id="0")
    redis_server.xreadgroup(GROUP, "me", {COMMANDS: ">"})
    for _ in range(MOST_TRIES):
        redis_server.xreadgroup(GROUP, "me", {COMMANDS: "0"})

    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    [answer] = answers(redis_server)
    assert "never acknowledged" in answer["data"]["because"]
    assert len(dead_letters(sql)) == (not dry_run)


def test_what_is_given_up_while_redis_is_full_is_answered_later(
    service: Service, producer: Producer, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commands, "_PAUSE_AFTER_A_FAULT", 0.01)
    sql("ALTER TABLE batches ADD CONSTRAINT unexpected CHECK (purchased_quantity <> 7)")
    producer.send("create_batch", {"ref": "b1", "sku": "LAMP", "qty": 7}, replyto="shop.replies")
    send, faults = service.replies.send, [Unavailable("redis is full"), Unavailable("redis is full")]

    def send_when_there_is_room(*answer: Any) -> None:
        if faults:
            raise faults.pop()
        send(*answer)

    monkeypatch.setattr(service.replies, "send", send_when_there_is_room)
    with at_work(partial(run, service)):
        until_all_is_done(redis_server)

    assert [answer["data"]["refused"] for answer in answers(redis_server)] == ["/problems/internal-error"]
    assert len(dead_letters(sql)) == 1


@pytest.mark.parametrize("is_pending", [True, False])
def test_an_answer_comes_once_though_it_can_not_be_noted_for_a_while(
    service: Service,
    producer: Producer,
    redis_server: redis.Redis,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_pending: bool,
) -> None:
    monkeypatch.setattr(inbound, "_SHORTEST_PAUSE", 0.01)
    with at_work(partial(run, service)):
        producer.create_batch("b1", "LAMP", 10)
        until_all_is_done(redis_server)
    advance, faults = service.command_bus.advance, [Unavailable("a row is locked")] * 8

    def advance_when_possible(position: Position) -> None:
        if faults:
            raise faults.pop()
        advance(position)

    monkeypatch.setattr(service.command_bus, "advance", advance_when_possible)
    producer.send_raw("not json" if is_pending else json.dumps(CREATED), replyto="shop.replies")
    if is_pending:
        redis_server.xgroup_createconsumer(COMMANDS, GROUP, "me")
        redis_server.xreadgroup(GROUP, "me", {COMMANDS: ">"})

    with at_work(partial(run, service)):
        assert wait_for(lambda: not faults and is_all_answered(sql), within=PATIENCE)

    assert len(answers(redis_server)) == 1
    assert len(dead_letters(sql)) == is_pending
