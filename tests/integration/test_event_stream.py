"""The stream `allocation.events`: every event, in order, whoever comes late and whatever Redis forgets."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from inspect import getsource
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.connection import AbstractConnection
from sqlalchemy import Engine

from allocation.adapters.redis_channels import EVENTS
from allocation.adapters.wire_names import CODEC
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain import commands
from allocation.domain.events import BatchCreated
from allocation.service_layer.routing import PUBLISH_EVENT
from embedded.valkey import Redis
from embedded.waiting import wait_for
from messaging.cloud_events import CloudEvents
from messaging.envelope import Delivery, Metadata, Recorded
from messaging.errors import ClaimLost, Unavailable
from messaging.outbox.claims import Claim
from messaging.outbox.delivery import DeliveryRound, Outage, RetryPolicy
from messaging.redis import event_stream
from messaging.redis.client import redis_client
from messaging.redis.event_stream import Append, EventStream, StreamEvent
from messaging.sql.deliveries import SqlDeliveries

Sql = Callable[..., list[tuple[Any, ...]]]
PUBLISH = PUBLISH_EVENT
TOLD, INCARNATION = "{allocation.events}.told", "{allocation.events}.incarnation"


@pytest.fixture
def redis_url(every_redis_url: str) -> str:
    return every_redis_url


def published(redis_server: redis.Redis) -> list[dict[str, Any]]:
    """The events in the stream, in its order."""
    entries: Any = redis_server.xrange(EVENTS)
    return [json.loads(fields[b"event"]) for _, fields in entries]


def sequences(redis_server: redis.Redis, sku: str) -> list[int]:
    return [int(event["sequence"]) for event in published(redis_server) if event["subject"] == sku]


def tell_all(service: Service) -> None:
    while service.relay.deliver(PUBLISH):
        pass


def a_history(service: Service, sku: str = "LAMP") -> None:
    """Five events, one of each kind."""
    for command in (
        commands.CreateBatch(f"b-{sku}", sku, 10),
        commands.Allocate(f"o-{sku}", sku, 10),
        commands.ChangeBatchQuantity(f"b-{sku}", 9),
    ):
        service.bus.handle(command)


# --- what is told ------------------------------------------------------------


def test_every_event_is_there_as_a_cloud_event(service: Service, redis_server: redis.Redis, sql: Sql) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LÄMP", 10))
    service.bus.handle(commands.Allocate("o1", "LÄMP", 3, "line-1"), Metadata.first("http", "request-1"))
    tell_all(service)

    created, allocated = published(redis_server)

    [(event_id, causation_id)] = sql("SELECT id::text, causation_id FROM event_log WHERE version = 2")
    assert datetime.fromisoformat(allocated.pop("time")).tzinfo
    assert allocated == {
        "specversion": "1.0",
        "id": event_id,
        "source": "/allocation",
        "type": "allocation.allocated.v1",
        "subject": "LÄMP",
        "datacontenttype": "application/json",
        "sequence": "2",
        "correlationid": "request-1",
        "causationid": causation_id,
        "data": {"orderid": "o1", "sku": "LÄMP", "qty": 3, "batchref": "b1", "lineid": "line-1"},
    }
    assert (created["type"], created["sequence"]) == ("allocation.batch_created.v1", "1")
    assert created["data"] == {"ref": "b1", "sku": "LÄMP", "qty": 10, "eta": None}


def test_all_kinds_of_events_are_published_in_their_order(service: Service, redis_server: redis.Redis) -> None:
    a_history(service)

    assert service.relay.deliver(PUBLISH) == 5, "all under one claim"

    kinds = ["batch_created", "allocated", "batch_quantity_changed", "deallocated", "out_of_stock"]
    assert [event["type"] for event in published(redis_server)] == [f"allocation.{kind}.v1" for kind in kinds]
    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5]


def test_what_is_too_old_is_trimmed(redis_server: redis.Redis) -> None:
    for number in range(300):
        redis_server.xadd(EVENTS, {"event": "old"}, id=f"1-{number + 1}")

    EventStream(redis_server, EVENTS, timedelta(days=7)).append_all([Append("LAMP", 1, 0, 1, [StreamEvent(1, b"new")])])

    left: Any = redis_server.xrange(EVENTS)
    assert len(left) < 101, "Redis trims whole nodes of a hundred"
    assert left[-1][1] == {b"event": b"new"}


@pytest.mark.parametrize("ahead", [timedelta(days=30), timedelta(days=-30)])
def test_what_is_too_old_by_one_clock_only_stays(redis_server: redis.Redis, ahead: timedelta) -> None:
    """A clock that jumps must not empty the stream. Redis's own can't be set here, so its entries are made old."""
    seconds, _ = redis_server.time()
    age = timedelta(days=10) if ahead < timedelta() else timedelta(days=1)
    for number in range(300):
        redis_server.xadd(EVENTS, {"event": "x"}, id=f"{(int(seconds) - int(age.total_seconds())) * 1000}-{number + 1}")

    def clock() -> float:
        return int(seconds) + ahead.total_seconds()

    stream = EventStream(redis_server, EVENTS, timedelta(days=7), clock)
    stream.append_all([Append("LAMP", 1, 0, 1, [StreamEvent(1, b"new")])])

    assert redis_server.xlen(EVENTS) == 301


STEPS = sorted(set(re.findall(r"redis\.p?call\('(\w+)'", getsource(event_stream))))


@contextmanager
def of_the_relay(redis_server: redis.Redis) -> Iterator[redis.Redis]:
    """Its client, as a user of its own."""
    password = "of-the-relay"
    acl: Any = redis_server.execute_command
    acl("ACL", "SETUSER", "relay", "on", f">{password}", "~*", "&*", "+@all")
    pool = redis_server.connection_pool.connection_kwargs
    with redis.Redis(host=pool["host"], port=pool["port"], username="relay", password=password) as client:
        yield client
    redis_server.acl_deluser("relay")


@pytest.mark.parametrize("command", STEPS)
def test_a_step_that_is_refused_leaves_nothing_twice(redis_server: redis.Redis, command: str) -> None:
    """Whatever Redis does not let us do, for a while."""
    acl: Any = redis_server.execute_command
    with of_the_relay(redis_server) as client:
        stream = EventStream(client, EVENTS, timedelta(days=7))
        appends = [
            Append("LAMP", 1, 0, 2, [StreamEvent(1, b"one", "channel", b"m"), StreamEvent(2, b"two", "channel", b"m")])
        ]
        acl("ACL", "SETUSER", "relay", f"-{command}")
        is_told = False
        for _ in range(3):
            with suppress(Unavailable):
                if not is_told:
                    stream.append_all(appends)
                    is_told = True
        acl("ACL", "SETUSER", "relay", f"+{command}")
        if not is_told:
            stream.append_all(appends)

    entries: Any = redis_server.xrange(EVENTS)
    bodies = [fields[b"event"] for _, fields in entries]
    assert [body for body in bodies if body] == [b"one", b"two"]
    assert is_told or command != "publish"


def test_a_field_beside_the_stream_that_is_not_ours_is_no_obstacle(redis_server: redis.Redis) -> None:
    stream = EventStream(redis_server, EVENTS, timedelta(days=7))
    stream.append_all([Append("SOFA", 1, 0, 1, [StreamEvent(1, b"{}")])])
    redis_server.hset(f"{{{EVENTS}}}.told", "LAMP", "junk")

    assert stream.versions(["LAMP", "SOFA"]) == [0, 1]
    stream.append_all([Append("LAMP", 1, 0, 1, [StreamEvent(1, b"{}")])])

    assert stream.versions(["LAMP", "SOFA"]) == [1, 1]


@pytest.mark.parametrize(("stay", "left"), [(timedelta(days=7), 301), (timedelta(hours=1), 1)])
def test_events_stay_as_long_as_the_settings_say(
    settings: Settings, redis_server: redis.Redis, stay: timedelta, left: int
) -> None:
    seconds, _ = redis_server.time()
    for number in range(300):
        redis_server.xadd(EVENTS, {"event": "two hours old"}, id=f"{seconds - 7200}000-{number + 1}")
    service = bootstrap(replace(settings, events_stay=stay))

    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    tell_all(service)
    service.close()

    assert left <= redis_server.xlen(EVENTS) < left + 100, "Redis trims whole nodes of a hundred"


def calls(redis_server: redis.Redis, command: str) -> int:
    counted: Any = redis_server.info("commandstats")
    return int(counted.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_all_events_of_a_sku_are_published_in_one_step(service: Service, redis_server: redis.Redis) -> None:
    a_history(service, "LAMP")
    a_history(service, "SOFA")
    redis_server.config_resetstat()

    assert service.relay.deliver(PUBLISH) == 10

    assert calls(redis_server, "evalsha") == 2, "one for each SKU"
    assert sequences(redis_server, "LAMP") == sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5]


def test_what_is_refused_of_one_sku_holds_back_no_other(service: Service, redis_server: redis.Redis, sql: Sql) -> None:
    for sku in ("LAMP", "SOFA", "TABLE"):
        a_history(service, sku)
    redis_server.hset(TOLD, "LAMP", f"{int(datetime.now(UTC).timestamp() * 1_000_000) + 10**12}:0")
    redis_server.xadd(EVENTS, {"event": '{"subject": "a stream that is there"}'})
    sql("INSERT INTO deliveries VALUES (:effect, 'SOFA', 7)", effect=PUBLISH)

    assert service.relay.deliver(PUBLISH) == 5

    assert sequences(redis_server, "TABLE") == [1, 2, 3, 4, 5]
    assert sequences(redis_server, "LAMP") == sequences(redis_server, "SOFA") == []
    [(sku, version, reason)] = sql("SELECT stream, version, reason FROM outbox WHERE attempts > 0")
    assert (sku, version) == ("SOFA", 1), "LAMP is another relay's by now"
    assert "redis has lost what came before version 8 of SOFA" in reason


def test_what_redis_can_not_do_is_tried_again(service: Service, redis_server: redis.Redis, sql: Sql) -> None:
    a_history(service, "LAMP")
    a_history(service, "SOFA")
    redis_server.set(EVENTS, "not a stream")

    assert service.relay.deliver(PUBLISH) == 0

    [(stream, version, faults, reason)] = sql("SELECT stream, version, faults, reason FROM outbox WHERE attempts > 0")
    assert (stream, version, faults) == ("LAMP", 1, 0), "an outage, of both, that one has noted"
    assert "WRONGTYPE" in reason
    assert redis_server.hget(TOLD, "LAMP") is None, "nor is it noted as told"

    redis_server.delete(EVENTS)
    sql("UPDATE outbox SET retry_at = NULL")
    tell_all(service)
    assert sequences(redis_server, "LAMP") == sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5]


def test_what_redis_refuses_of_one_sku_holds_back_no_other(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    a_history(service, "LAMP")
    tell_all(service)
    redis_server.hset(TOLD, "LAMP", "1:2")  # as if it had lost the rest
    service.bus.handle(commands.Allocate("another", "LAMP", 1))
    a_history(service, "SOFA")

    assert service.relay.deliver(PUBLISH) == 5

    assert sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5]
    assert sql("SELECT stream, version, faults FROM outbox WHERE attempts > 0") == [("LAMP", 6, 0)]


def test_an_event_that_can_not_be_published_is_found_among_many_and_holds_back_its_own_sku(
    service: Service, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_history(service, "LAMP")
    a_history(service, "SOFA")
    encode = CloudEvents.encode

    def fail_for_one(self: CloudEvents, recorded: Recorded[object]) -> bytes:
        if (recorded.stream, recorded.version) == ("LAMP", 3):
            raise ValueError("can't be told")
        return encode(self, recorded)

    monkeypatch.setattr(CloudEvents, "encode", fail_for_one)

    assert service.relay.deliver(PUBLISH) == 7

    assert sequences(redis_server, "LAMP") == [1, 2]
    assert sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5]
    assert sql("SELECT stream, version, faults FROM outbox WHERE attempts > 0") == [("LAMP", 3, 1)]


# --- who comes late ----------------------------------------------------------


def test_a_relay_that_was_replaced_can_not_publish_late(service: Service, redis_server: redis.Redis, sql: Sql) -> None:
    a_history(service)
    [late] = service.relay.deliveries.claim(PUBLISH)
    sql("UPDATE deliveries SET claimed_until = clock_timestamp()")
    tell_all(service)
    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5]

    publish = service.relay.routes.find_effect(BatchCreated, PUBLISH)
    refused = publish.deliver([Delivery(late.messages[0].read(), late.after, late.token)])

    assert isinstance(refused["LAMP"], ClaimLost)
    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5]


def test_a_token_rises_even_when_the_database_was_restored(service: Service, sql: Sql) -> None:
    """The backup knows nothing of the tokens that were given since."""
    a_history(service)
    [before] = service.relay.deliveries.claim(PUBLISH)
    sql("DELETE FROM deliveries")

    [after] = service.relay.deliveries.claim(PUBLISH)

    assert after.token > before.token


def a_token_ahead(by: timedelta = timedelta(hours=1)) -> int:
    return int((time.time() + by.total_seconds()) * 1_000_000)


def test_a_token_that_was_lost_with_a_database_holds_up_its_subject_for_a_moment_only(
    service: Service, redis_server: redis.Redis
) -> None:
    """As after a failover to a standby that lacks the last claims, and whose clock is behind."""
    a_history(service)
    tell_all(service)
    redis_server.hset(TOLD, "LAMP", f"{a_token_ahead()}:5")
    service.bus.handle(commands.CreateBatch("later", "LAMP", 1))

    assert service.relay.deliver(PUBLISH) == 0, "it may be the token of another relay that is at work"
    assert service.relay.deliver(PUBLISH) == 1

    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5, 6]
    assert service.relay.deliver(PUBLISH) == 0


def test_nor_does_it_hold_up_what_is_published_again(service: Service, redis_server: redis.Redis) -> None:
    for sku in ("LAMP", "SOFA"):
        a_history(service, sku)
    tell_all(service)
    for sku in ("LAMP", "SOFA"):
        redis_server.hset(TOLD, sku, f"{a_token_ahead()}:3")

    assert service.backfill.fill() == 0
    assert service.backfill.fill() == 4


def test_whoever_was_replaced_gives_their_successor_no_other_token(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    a_history(service, "SOFA")
    tell_all(service)
    a_history(service)
    [late] = service.relay.deliveries.claim(PUBLISH)
    sql("UPDATE deliveries SET claimed_until = clock_timestamp() WHERE stream = 'LAMP'")
    other = SqlDeliveries(service.engine, CODEC)
    [ours] = other.claim(PUBLISH)
    redis_server.hset(TOLD, "LAMP", f"{a_token_ahead()}:0")

    DeliveryRound(PUBLISH, service.relay.routes, RetryPolicy(), lambda: False, Outage(PUBLISH)).run([late])
    service.relay.deliveries.settle(PUBLISH, [late])

    assert late.met > ours.token
    found = sql("SELECT token, claimed_until IS NULL FROM deliveries WHERE stream = 'LAMP'")
    assert found == [(ours.token, False)]


def test_what_happens_after_a_restore_is_published(service: Service, redis_server: redis.Redis, sql: Sql) -> None:
    """Redis has heard of versions that the restored database will give to other events."""
    a_history(service)
    stream = EventStream(redis_server, EVENTS, timedelta(days=7))
    stream.append_all([Append("LAMP", 1, 0, 70, [StreamEvent(70, b'{"subject": "LAMP", "sequence": "70"}')])])

    tell_all(service)

    assert sequences(redis_server, "LAMP") == [70, 1, 2, 3, 4, 5]


# --- what Redis forgets ------------------------------------------------------


def forget_everything(redis_server: redis.Redis) -> None:
    redis_server.flushall()


def forget_the_stream(redis_server: redis.Redis) -> None:
    redis_server.delete(EVENTS)


def forget_what_was_told(redis_server: redis.Redis) -> None:
    redis_server.delete(TOLD)


@pytest.mark.parametrize("forget", [forget_everything, forget_the_stream])
def test_what_redis_has_lost_is_published_again_from_the_log(
    service: Service, redis_server: redis.Redis, forget: Callable[[redis.Redis], None]
) -> None:
    a_history(service, "LAMP")
    a_history(service, "SOFA")
    tell_all(service)
    ids = {event["id"] for event in published(redis_server)}
    assert service.backfill.fill() == 0, "nothing is missing"

    forget(redis_server)

    assert service.backfill.fill() == 10
    assert sequences(redis_server, "LAMP") == sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5]
    assert {event["id"] for event in published(redis_server)} == ids, "under the same ids"
    assert service.backfill.fill() == 0
    stream = service.backfill.stream
    assert stream.is_complete(stream.home()), "and need not be looked at again"


@pytest.mark.parametrize("forget", [forget_everything, forget_the_stream])
def test_what_is_new_waits_until_the_lost_is_back(
    service: Service, redis_server: redis.Redis, sql: Sql, forget: Callable[[redis.Redis], None]
) -> None:
    a_history(service)
    tell_all(service)
    forget(redis_server)
    service.bus.handle(commands.Allocate("o2", "LAMP", 1))

    assert service.relay.deliver(PUBLISH) == 0
    [(reason,)] = sql("SELECT reason FROM outbox WHERE effect = :effect", effect=PUBLISH)
    assert "redis has lost what came before version 6 of LAMP" in reason
    service.backfill.fill()
    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    tell_all(service)

    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("recorded_by_a_clock_that_was_behind", ["", "2", "2, 3"])
def test_a_lost_tail_is_published_again(
    service: Service, redis_server: redis.Redis, sql: Sql, recorded_by_a_clock_that_was_behind: str
) -> None:
    """As when Redis ends before it has written its last second to disk, or a replica takes over that lags behind."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    tell_all(service)
    service.backfill.fill()
    backup = {key: redis_server.dump(key) for key in (EVENTS, TOLD)}
    service.bus.handle(commands.Allocate("o1", "LAMP", 1))
    service.bus.handle(commands.Allocate("o2", "LAMP", 1))
    tell_all(service)
    if recorded_by_a_clock_that_was_behind:
        behind = f"version IN ({recorded_by_a_clock_that_was_behind})"
        sql(f"UPDATE event_log SET time = now() - interval '40 days' WHERE {behind}")

    for key, value in backup.items():
        redis_server.restore(key, 0, value, replace=True)  # type: ignore[arg-type]
    redis_server.hset(TOLD, "", "the Redis that has ended")

    assert service.backfill.fill() == 2
    assert sequences(redis_server, "LAMP") == [1, 2, 3]


def set_aside(redis_server: redis.Redis) -> Callable[[], None]:
    """As if the address led to another Redis, which is empty, until it is called: then to the first, as it was left."""
    keys = [key for key in (EVENTS, TOLD, INCARNATION) if redis_server.exists(key)]
    for key in keys:
        redis_server.rename(key, f"aside {key}")

    def lead_back() -> None:
        redis_server.delete(EVENTS, TOLD, INCARNATION)
        for key in keys:
            redis_server.rename(f"aside {key}", key)

    return lead_back


def test_what_was_published_elsewhere_is_published_here_when_the_address_leads_back(
    service: Service, redis_server: redis.Redis
) -> None:
    """To a Redis that has been there all the time, and calls itself complete."""
    a_history(service)
    tell_all(service)
    service.backfill.fill()
    incarnation = redis_server.get(INCARNATION)
    lead_back = set_aside(redis_server)
    assert service.backfill.fill() == 5
    service.bus.handle(commands.Allocate("o2", "LAMP", 1))
    tell_all(service)

    lead_back()

    assert service.backfill.fill() == 1
    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5, 6]
    assert redis_server.get(INCARNATION) != incarnation, "who has read elsewhere may know ids that are given again"
    assert service.backfill.stream.is_complete(service.backfill.stream.home())


def test_what_could_not_be_compared_elsewhere_is_compared_here(
    service: Service, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_history(service)
    tell_all(service)
    service.backfill.fill()
    lead_back = set_aside(redis_server)
    service.bus.handle(commands.CreateBatch("b2", "SOFA", 10))
    tell_all(service)
    with monkeypatch.context() as patch:
        patch.setattr(SqlDeliveries, "claim_these", lambda *_: raise_unavailable())
        with pytest.raises(Unavailable):
            service.backfill.fill()

    lead_back()

    assert service.backfill.fill() == 1
    assert sequences(redis_server, "SOFA") == [1]


def test_what_was_compared_elsewhere_is_compared_here_too(
    service: Service, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address led elsewhere and back while all was compared, page by page."""
    for sku in ("A", "B", "C"):
        a_history(service, sku)
    tell_all(service)
    redis_server.hset(TOLD, mapping={"B": "0:3", "": "not compared"})
    backfill, versions = replace(service.backfill, streams_at_once=1), EventStream.versions

    lead_back: Callable[[], None] | None = None

    def b_elsewhere(stream: EventStream, skus: Sequence[str]) -> list[int]:
        nonlocal lead_back
        if skus == ["B"]:
            lead_back = set_aside(redis_server)
            stream.append_all([Append("B", 1, 0, 5, [StreamEvent(5, b"{}")])])
        elif lead_back:
            lead_back()
        return versions(stream, skus)

    with monkeypatch.context() as patch:
        patch.setattr(EventStream, "versions", b_elsewhere)
        assert backfill.fill() == 0

    assert backfill.fill() == 2


def raise_unavailable() -> None:
    raise Unavailable("the address leads elsewhere again")


def test_a_relay_that_starts_believes_no_redis_that_it_is_complete(
    service: Service, settings: Settings, redis_server: redis.Redis
) -> None:
    """Whoever has published elsewhere may have been killed since."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    tell_all(service)
    service.backfill.fill()
    lead_back = set_aside(redis_server)
    service.bus.handle(commands.CreateBatch("b2", "SOFA", 10))
    tell_all(service)
    lead_back()

    started = bootstrap(settings)
    try:
        assert started.backfill.fill() == 1
        assert started.backfill.fill() == 0
    finally:
        started.close()
    assert sequences(redis_server, "SOFA") == [1]


def test_a_gap_is_seen_though_redis_is_the_same(service: Service, redis_server: redis.Redis, sql: Sql) -> None:
    a_history(service)
    tell_all(service)
    service.backfill.fill()
    redis_server.hset(TOLD, "LAMP", "0:3")
    service.bus.handle(commands.Allocate("o2", "LAMP", 1))

    service.relay.deliver(PUBLISH)

    assert service.backfill.fill() == 2
    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    assert service.relay.deliver(PUBLISH) == 1


def test_what_is_seen_missing_during_a_check_is_not_taken_for_complete_after_it(redis_server: redis.Redis) -> None:
    """Nor by another relay, which has compared all there was before."""
    stream, other = (EventStream(redis_server, EVENTS, timedelta(days=7)) for _ in range(2))
    stream.append_all([Append("LAMP", 1, 0, 1, [StreamEvent(1, b"{}")])])
    home = stream.home()
    other.end_check(other.begin_check(home), home)
    assert other.is_complete(home)
    mark = stream.begin_check(home)
    with pytest.raises(Unavailable, match="has lost what came before version 6"):
        stream.append_all([Append("LAMP", 1, 5, 6, [StreamEvent(6, b"{}")])])

    stream.end_check(mark, home)

    assert not stream.is_complete(home)
    assert not other.is_complete(home)


def test_when_it_is_forgotten_what_was_published_all_is_published_again(
    service: Service, redis_server: redis.Redis
) -> None:
    a_history(service)
    tell_all(service)
    forget_what_was_told(redis_server)

    assert service.backfill.fill() == 5

    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5] * 2, "better twice than never"


def test_what_was_dropped_is_not_published_again_and_leaves_no_gap(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    a_history(service)
    sql("UPDATE outbox SET dead_at = now(), reason = 'test' WHERE effect = :effect AND version = 1", effect=PUBLISH)
    service.relay.deliver(PUBLISH)
    [dead] = service.dead_letters.effects()
    sql("INSERT INTO deliveries VALUES (:effect, 'LAMP') ON CONFLICT DO NOTHING", effect=PUBLISH)
    service.dead_letters.drop_effect(dead, by="me")
    service.relay.deliver(PUBLISH)
    service.backfill.fill()
    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    tell_all(service)
    assert sequences(redis_server, "LAMP") == [2, 3, 4, 5]

    forget_everything(redis_server)
    service.backfill.fill()

    assert sequences(redis_server, "LAMP") == [2, 3, 4, 5]


def test_what_never_had_this_effect_is_not_published_again(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    """As an event of a kind that an older release did not tell."""
    a_history(service)
    tell_all(service)
    sql("UPDATE event_log SET effects = '[]' WHERE version = 2")
    forget_everything(redis_server)

    assert service.backfill.fill() == 4

    assert sequences(redis_server, "LAMP") == [1, 3, 4, 5]


def test_what_is_older_than_the_stream_keeps_is_not_published_again(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    a_history(service)
    tell_all(service)
    sql("UPDATE event_log SET time = now() - interval '8 days' WHERE version < 4")
    forget_everything(redis_server)

    assert service.backfill.fill() == 2
    service.bus.handle(commands.Allocate("o2", "LAMP", 1))
    tell_all(service)

    assert sequences(redis_server, "LAMP") == [4, 5, 6]


@pytest.mark.parametrize(("stay", "back"), [(timedelta(days=7), 5), (timedelta(hours=1), 2)])
def test_is_published_again_as_far_back_as_the_settings_say(
    settings: Settings, redis_server: redis.Redis, sql: Sql, stay: timedelta, back: int
) -> None:
    service = bootstrap(replace(settings, events_stay=stay))
    a_history(service)
    tell_all(service)
    sql("UPDATE event_log SET time = now() - interval '2 hours' WHERE version < 4")
    forget_everything(redis_server)

    told_again = service.backfill.fill()
    service.close()

    assert told_again == back
    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5][-back:]


def test_what_a_clock_that_was_behind_has_recorded_leaves_no_hole(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    for sku in ("LAMP", "SOFA"):
        a_history(service, sku)
    service.bus.handle(commands.CreateBatch("b-TABLE", "TABLE", 1))
    tell_all(service)
    sql("UPDATE event_log SET time = now() - interval '40 days' WHERE version IN (3, 4) OR stream = 'TABLE'")
    forget_everything(redis_server)

    assert service.backfill.fill() == 11

    for sku in ("LAMP", "SOFA"):
        assert sequences(redis_server, sku) == [1, 2, 3, 4, 5]
    assert sequences(redis_server, "TABLE") == [1]


@pytest.mark.parametrize("ahead", ["true", "version < 4", "version > 1", "version IN (2, 4)"])
def test_what_a_clock_that_was_ahead_has_recorded_leaves_no_hole(
    service: Service, redis_server: redis.Redis, sql: Sql, ahead: str
) -> None:
    """Or all of it, while the clock of the database is behind."""
    a_history(service, "SOFA")
    sql("UPDATE event_log SET time = now() - interval '8 days'")
    a_history(service)
    tell_all(service)
    sql(f"UPDATE event_log SET time = now() + interval '2 days' WHERE stream = 'LAMP' AND {ahead}")
    forget_everything(redis_server)

    assert service.backfill.fill() == 5

    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5]


def test_while_the_clock_of_the_database_is_ahead_nothing_is_too_old(
    settings: Settings, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = bootstrap(settings)
    a_history(service)
    tell_all(service)
    ahead = 8 * 24 * 3_600
    sql("UPDATE event_log SET time = time - make_interval(secs => :ahead)", ahead=ahead)
    monkeypatch.setattr(service.backfill.delivered, "_clock", lambda: time.time() - ahead)
    forget_everything(redis_server)

    told_again = service.backfill.fill()
    service.close()

    assert told_again == 5
    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5]


def test_a_time_without_end_does_not_make_young_what_was_recorded_after_it(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    a_history(service)
    tell_all(service)
    sql("UPDATE event_log SET time = now() - interval '8 days' WHERE version < 4")
    sql("UPDATE event_log SET time = 'infinity' WHERE version = 1")
    forget_everything(redis_server)

    assert service.backfill.fill() == 2

    assert sequences(redis_server, "LAMP") == [4, 5]


def test_a_redis_that_is_given_nothing_but_old_events_is_complete(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    a_history(service)
    tell_all(service)
    sql("UPDATE event_log SET time = now() - interval '8 days'")
    forget_everything(redis_server)

    assert service.backfill.fill() == 0
    service.bus.handle(commands.Allocate("o2", "LAMP", 1))
    tell_all(service)

    assert sequences(redis_server, "LAMP") == [6]


@pytest.mark.parametrize("relay", ["goes on", "is dead", "is dead, and comes back"])
def test_what_was_published_before_a_loss_and_written_down_after_it_is_published_again(
    service: Service, engine: Engine, redis_server: redis.Redis, sql: Sql, relay: str
) -> None:
    a_history(service, "SOFA")
    tell_all(service)
    a_history(service)
    [claim] = (theirs := SqlDeliveries(engine, CODEC)).claim(PUBLISH)
    DeliveryRound(PUBLISH, service.relay.routes, RetryPolicy(), lambda: False, Outage(PUBLISH)).run([claim])
    assert sequences(redis_server, "LAMP") == claim.delivered == [1, 2, 3, 4, 5]
    forget_everything(redis_server)
    if relay != "goes on":
        sql("UPDATE deliveries SET claimed_until = now() - interval '1 minute'")

    for _ in range(3):
        replace(service.backfill, patience=0.1).fill()
    if relay != "is dead":
        theirs.settle(PUBLISH, [claim])
    service.backfill.fill()
    tell_all(service)

    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5]


def test_what_can_not_be_read_does_not_hold_up_the_rest(service: Service, redis_server: redis.Redis, sql: Sql) -> None:
    a_history(service)
    tell_all(service)
    sql("UPDATE event_log SET data = data - 'sku' WHERE version = 2")
    forget_everything(redis_server)

    assert service.backfill.fill() == 4

    assert sequences(redis_server, "LAMP") == [1, 3, 4, 5]


def test_what_only_a_newer_release_can_publish_again_is_left_to_it(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    a_history(service, "LAMP")
    a_history(service, "SOFA")
    tell_all(service)
    sql("UPDATE event_log SET type = 'allocated.v99' WHERE stream = 'LAMP' AND version = 2")
    forget_everything(redis_server)

    for _ in range(2):
        with pytest.raises(Unavailable, match=r"a newer release must publish 1 streams, as LAMP: .* allocated\.v99 "):
            service.backfill.fill()
    service.bus.handle(commands.Allocate("o-new", "LAMP", 1))
    tell_all(service)

    assert sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5]
    assert sequences(redis_server, "LAMP") == [1], "nothing is passed over"

    sql("UPDATE event_log SET type = 'allocated.v1' WHERE version = 2")  # the newer release knows what that is
    sql("UPDATE outbox SET retry_at = NULL")
    assert service.backfill.fill() == 4
    tell_all(service)
    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("forget", [forget_everything, forget_what_was_told])
def test_what_another_has_claimed_is_looked_at_again(
    service: Service, redis_server: redis.Redis, sql: Sql, forget: Callable[[redis.Redis], None]
) -> None:
    a_history(service)
    tell_all(service)
    forget(redis_server)
    object.__setattr__(service.backfill.deliveries, "lease", 3_600)
    sql("UPDATE deliveries SET claimed_until = now() + interval '1 hour'")

    assert replace(service.backfill, patience=0.05).fill() == 0
    sql("UPDATE deliveries SET claimed_until = NULL")

    assert service.backfill.fill() == 5


def test_what_another_has_taken_over_meanwhile_is_looked_at_again(
    service: Service, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_history(service)
    tell_all(service)
    forget_what_was_told(redis_server)

    def come_late(_: object) -> None:
        raise ClaimLost("another relay was faster")

    with monkeypatch.context() as patch:
        patch.setattr(service.backfill.stream, "append_all", come_late)
        assert service.backfill.fill() == 0

    assert service.backfill.fill() == 5


def test_long_histories_of_many_products_come_back_whole(service: Service, redis_server: redis.Redis, sql: Sql) -> None:
    skus = [f"SKU-{number}" for number in range(7)]
    for sku in skus:
        service.bus.handle(commands.CreateBatch(f"b-{sku}", sku, 1_000))
        for order in range(30):
            service.bus.handle(commands.Allocate(f"o{order}", sku, 1))
    tell_all(service)
    forget_everything(redis_server)
    object.__setattr__(service.backfill, "streams_at_once", 3)
    object.__setattr__(service.backfill, "messages_at_once", 20)

    assert service.backfill.fill() == 7 * 31

    assert all(sequences(redis_server, sku) == list(range(1, 32)) for sku in skus)
    assert sql("SELECT count(*) FROM deliveries WHERE claimed_until IS NOT NULL") == [(0,)]


def test_a_long_refill_stops_between_batches_when_it_is_told_to_and_the_next_one_goes_on(
    service: Service,
    redis_server: redis.Redis,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else it would outlive the time that a process has to end, and be killed."""
    skus = [f"SKU-{number}" for number in range(4)]
    for sku in skus:
        a_history(service, sku)
    tell_all(service)
    forget_what_was_told(redis_server)
    object.__setattr__(service.backfill, "streams_at_once", 2)
    object.__setattr__(service.backfill, "messages_at_once", 3)
    stop, tell = Event(), EventStream.append_all

    def tell_and_stop(self: EventStream, appends: Sequence[Append]) -> None:
        tell(self, appends)
        stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(EventStream, "append_all", tell_and_stop)
        service.backfill.run(stop)

    assert len(published(redis_server)) == 20 + 3
    assert caplog.messages == [], "it does not say that Redis has all of it again"
    stream = service.backfill.stream
    assert not stream.is_complete(stream.home())
    assert sql("SELECT count(*) FROM deliveries WHERE claimed_until IS NOT NULL") == [(0,)]
    assert service.backfill.fill() == 17
    assert all(sequences(redis_server, sku) == [1, 2, 3, 4, 5] * 2 for sku in skus)


def test_what_is_published_again_follows_on_what_was_published_before_it(
    service: Service, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that Redis sees it when one in the middle was refused."""
    a_history(service)
    tell_all(service)
    forget_everything(redis_server)
    told_again: list[Append] = []

    def note(_: EventStream, appends: Sequence[Append]) -> None:
        told_again.extend(appends)

    monkeypatch.setattr(EventStream, "append_all", note)
    service.backfill.fill()

    assert [(one.after, one.version) for one in told_again] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5)]


def test_what_is_lost_between_comparing_and_publishing_is_published_in_the_next_round(
    service: Service, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a crash loop, or when another replica takes over in the middle of a refill."""
    a_history(service)
    tell_all(service)
    redis_server.hset(TOLD, "LAMP", "0:3")
    claim_these = service.backfill.deliveries.claim_these
    losses = [redis_server]

    def lose_and_claim(effect: str, streams: Collection[str]) -> list[Claim]:
        if losses:
            forget_everything(losses.pop())
        return claim_these(effect, streams)

    monkeypatch.setattr(service.backfill.deliveries, "claim_these", lose_and_claim)

    with pytest.raises(Unavailable, match="redis has lost what came before"):
        service.backfill.fill()
    assert sequences(redis_server, "LAMP") == [], "nothing is told without what came before it"

    assert service.backfill.fill() == 5
    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "left_out",
    [
        "UPDATE event_log SET time = now() - interval '8 days' WHERE version <= 3",
        "INSERT INTO dropped_effects VALUES (:effect, 'LAMP', 3, 'test', 'me')",
    ],
    ids=["too old", "dropped"],
)
def test_a_lost_tail_is_published_again_though_it_begins_with_what_is_left_out(
    service: Service, redis_server: redis.Redis, sql: Sql, left_out: str
) -> None:
    a_history(service)
    tell_all(service)
    redis_server.hset(TOLD, "LAMP", "0:2")
    sql(left_out, **({"effect": PUBLISH} if ":effect" in left_out else {}))

    assert service.backfill.fill() == 2

    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5, 4, 5]
    stream = service.backfill.stream
    assert service.backfill.fill() == 0
    assert stream.is_complete(stream.home())


@pytest.fixture
def crashing_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of the test's own, to kill."""
    server = Redis(tmp_path / "crashing", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize(("key", "kind"), [(EVENTS, "SET"), (TOLD, "SET"), (INCARNATION, "LPUSH")])
def test_a_key_of_ours_that_is_of_another_type_is_named(redis_server: redis.Redis, key: str, kind: str) -> None:
    stream = one_event(redis_server)
    redis_server.rename(key, "our own")
    redis_server.execute_command(kind, key, "theirs")  # type: ignore[no-untyped-call]

    with pytest.raises(Unavailable, match=re.escape(key)):
        stream.is_complete("home")

    redis_server.delete(key)
    redis_server.rename("our own", key)
    stream.append_all([Append("LAMP", 1, 1, 2, [StreamEvent(2, b"{}")])])


def test_readers_do_not_begin_anew_since_a_redis_has_another_replication_id(
    settings: Settings, crashing_redis: Redis
) -> None:
    """As when its first replica comes: it is what it was."""
    service = bootstrap(replace(settings, redis_url=crashing_redis.url))
    try:
        service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
        tell_all(service)
        service.backfill.fill()
        home, incarnation = service.backfill.stream.home(), service.redis.get(INCARNATION)
        where = urlsplit(crashing_redis.url)
        with socket.create_connection((where.hostname or "", where.port or 0)) as replica:
            replica.sendall(f"AUTH {where.password}\r\n".encode())
            assert replica.recv(100) == b"+OK\r\n"
            replica.sendall(b"SYNC\r\n")
            assert wait_for(lambda: service.backfill.stream.home() != home, within=10), "or this shows nothing"

        service.backfill.fill()

        assert service.backfill.stream.is_complete(service.backfill.stream.home())
        assert service.redis.get(INCARNATION) == incarnation
    finally:
        service.close()


@pytest.mark.parametrize("a_relay_died", ["before it noted what it had published", "with a claim on another SKU"])
def test_who_reads_by_ids_begins_anew_after_a_restart_of_redis_whatever_is_missing(
    settings: Settings, crashing_redis: Redis, a_relay_died: str
) -> None:
    """What was published and not noted is not missed: it is published as if for the first time, maybe with a lower id.
    And as long as a stream is claimed nobody can tell whether nothing else is missing."""
    service, other = (bootstrap(replace(settings, redis_url=crashing_redis.url)) for _ in range(2))
    try:
        for sku in ("LAMP", "SOFA"):
            service.bus.handle(commands.CreateBatch(f"b-{sku}", sku, 10))
        tell_all(service)
        service.backfill.fill()
        service.redis.save()
        incarnation = service.redis.get(INCARNATION)
        service.bus.handle(commands.Allocate("o1", "LAMP", 1))
        if a_relay_died == "with a claim on another SKU":
            tell_all(service)
            assert other.backfill.deliveries.claim_these(PUBLISH, ["SOFA"])

        crashing_redis.kill()
        crashing_redis.start()
        service.redis.connection_pool.disconnect()

        tell_all(service)
        service.backfill.fill()
        assert sequences(service.redis, "LAMP") == [1, 2]
        assert service.redis.get(INCARNATION) != incarnation
        tell_all(service)
        service.backfill.fill()
        latest = service.redis.get(INCARNATION)
        for _ in range(3):
            service.backfill.fill()
        assert service.redis.get(INCARNATION) == latest, "and not with each look"
    finally:
        service.close()
        other.close()


def test_a_redis_that_comes_back_with_an_older_dump_is_told_what_it_lacks(
    settings: Settings, crashing_redis: Redis
) -> None:
    """It says itself that it is complete, as it was when the dump was written: only its name is another."""
    service = bootstrap(replace(settings, redis_url=crashing_redis.url))
    try:
        service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
        tell_all(service)
        service.backfill.fill()
        home = service.backfill.stream.home()
        assert service.backfill.stream.is_complete(home)
        incarnation = service.redis.get(INCARNATION)
        service.redis.save()
        service.bus.handle(commands.Allocate("o1", "LAMP", 1))
        service.bus.handle(commands.Allocate("o2", "LAMP", 1))
        tell_all(service)

        crashing_redis.kill()
        crashing_redis.start()
        service.redis.connection_pool.disconnect()

        assert sequences(service.redis, "LAMP") == [1], "the dump is the older one"
        assert service.backfill.stream.is_complete(home), "or this shows nothing"
        assert service.backfill.fill() == 2
        assert sequences(service.redis, "LAMP") == [1, 2, 3]
        assert service.redis.get(INCARNATION) != incarnation, "ids may be given again that readers have seen"
    finally:
        service.close()


# --- what another client does, or a clock ---


def trim(redis_server: redis.Redis) -> None:
    redis_server.xtrim(EVENTS, maxlen=2, approximate=False)


def delete_one(redis_server: redis.Redis) -> None:
    entries: Any = redis_server.xrange(EVENTS)
    redis_server.xdel(EVENTS, entries[1][0])


def add_with_a_limit(redis_server: redis.Redis) -> None:
    redis_server.xadd(EVENTS, {"event": '{"subject": "a stranger\'s"}'}, maxlen=2, approximate=False)


def make_anew(redis_server: redis.Redis) -> None:
    """As a reader does, after somebody has deleted it."""
    redis_server.delete(EVENTS)
    redis_server.xgroup_create(EVENTS, "reader", id="0", mkstream=True)


def make_anew_with_as_many(redis_server: redis.Redis) -> None:
    """Before anybody can look: how many there are says nothing then."""
    many = redis_server.xlen(EVENTS)
    with redis_server.pipeline(transaction=True) as at_once:
        at_once.delete(EVENTS)
        for _ in range(many):
            at_once.xadd(EVENTS, {"event": '{"subject": "a stranger\'s"}'})
        at_once.execute()


def make_anew_with_the_same_id(redis_server: redis.Redis) -> None:
    entries: Any = redis_server.xrange(EVENTS)
    with redis_server.pipeline(transaction=True) as at_once:
        at_once.delete(EVENTS)
        at_once.xadd(EVENTS, {"stranger": "was here"}, id=entries[-1][0])
        for _ in entries:
            at_once.xadd(EVENTS, {"stranger": "was here"})
        at_once.execute()


def add_with_an_id_that_is_the_last(redis_server: redis.Redis) -> None:
    redis_server.xadd(EVENTS, {"event": '{"subject": "a stranger\'s"}'}, id=f"{2**64 - 1}-{2**64 - 1}")


def add_with_an_id_that_is_years_ahead(redis_server: redis.Redis) -> None:
    redis_server.xadd(EVENTS, {"event": '{"subject": "a stranger\'s"}'}, id="9999999999999-0")


def note_a_moment_that_is_still_to_come(redis_server: redis.Redis) -> None:
    """As a clock that was ahead, of Redis and of the relay, has us note it when entries are let go."""
    kept: Any = redis_server.hget(TOLD, " kept")
    length = int(kept.split()[0])
    redis_server.hset(TOLD, " kept", f"{length} {int(redis_server.time()[0]) + 8 * 86_400}")


STRANGERS = [
    trim,
    delete_one,
    add_with_a_limit,
    make_anew,
    make_anew_with_as_many,
    make_anew_with_the_same_id,
    add_with_an_id_that_is_the_last,
    add_with_an_id_that_is_years_ahead,
    note_a_moment_that_is_still_to_come,
]


@pytest.mark.parametrize("do_harm", STRANGERS)
@pytest.mark.parametrize("is_busy", [True, False])
def test_what_a_stranger_or_a_clock_takes_from_the_stream_is_noticed_and_published_again_without_a_gap(
    service: Service,
    redis_server: redis.Redis,
    sql: Sql,
    caplog: pytest.LogCaptureFixture,
    do_harm: Callable[[redis.Redis], None],
    *,
    is_busy: bool,
) -> None:
    for sku in ("LAMP", "SOFA"):
        a_history(service, sku)
    tell_all(service)
    service.backfill.fill()
    incarnation = redis_server.get(INCARNATION)

    do_harm(redis_server)
    if is_busy:
        service.bus.handle(commands.Allocate("o2", "LAMP", 1))
        tell_all(service)
    service.backfill.fill()
    sql("UPDATE outbox SET retry_at = NULL")
    tell_all(service)

    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5, 6][: 5 + is_busy]
    assert sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5]
    assert redis_server.get(INCARNATION) != incarnation, "so that who reads by ids begins anew"
    assert "the stream is emptied and filled again" in caplog.messages
    assert service.backfill.fill() == 0
    stream = service.backfill.stream
    assert stream.is_complete(stream.home())
    assert caplog.messages.count("the stream is emptied and filled again") == 1


def delete_some_and_add_as_many(redis_server: redis.Redis) -> None:
    entries: Any = redis_server.xrange(EVENTS)
    with redis_server.pipeline(transaction=True) as at_once:
        at_once.xdel(EVENTS, *(entry for entry, _ in entries[1:4]))
        for _ in range(3):
            at_once.xadd(EVENTS, {"event": '{"subject": "a stranger\'s"}'})
        at_once.execute()


def add_within_a_limit_that_is_reached(redis_server: redis.Redis) -> None:
    limit = redis_server.xlen(EVENTS)
    for _ in range(4):
        redis_server.xadd(EVENTS, {"event": '{"subject": "a stranger\'s"}'}, maxlen=limit, approximate=False)


@pytest.mark.parametrize("do_harm", [delete_some_and_add_as_many, add_within_a_limit_that_is_reached])
@pytest.mark.parametrize("is_busy", [True, False])
def test_what_a_stranger_takes_is_noticed_though_they_add_as_much(
    service: Service, redis_server: redis.Redis, do_harm: Callable[[redis.Redis], None], *, is_busy: bool
) -> None:
    """Where Redis counts what is added: 6.2 does not."""
    for sku in ("LAMP", "SOFA"):
        a_history(service, sku)
    tell_all(service)
    service.backfill.fill()
    about: Any = redis_server.xinfo_stream(EVENTS)

    do_harm(redis_server)
    if is_busy:
        service.bus.handle(commands.Allocate("o2", "LAMP", 1))
        tell_all(service)
    service.backfill.fill()

    if "entries-added" in about:
        assert sequences(redis_server, "LAMP") == [1, 2, 3, 4, 5, 6][: 5 + is_busy]
        assert sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5]
    else:
        assert len(sequences(redis_server, "LAMP")) < 5
    assert service.backfill.fill() == 0


def test_what_was_let_go_since_it_is_old_is_taken_for_no_loss(
    service: Service, redis_server: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis_server
    old = int(client.time()[0]) - 8 * 86_400
    with client.pipeline() as pipeline:
        for number in range(300):
            pipeline.xadd(EVENTS, {"event": '{"subject": "OLD"}'}, id=f"{old}000-{number + 1}")
        pipeline.execute()
    for _ in range(3):
        service.backfill.fill()
        a_history(service, "LAMP")
        tell_all(service)

    assert client.xlen(EVENTS) < 300
    assert "the stream is emptied and filled again" not in caplog.messages


@pytest.mark.parametrize("command", STEPS)
def test_a_step_that_is_refused_while_what_is_old_is_let_go_is_taken_for_no_loss(
    redis_server: redis.Redis, command: str
) -> None:
    old = int(redis_server.time()[0]) - 8 * 86_400
    for number in range(300):
        redis_server.xadd(EVENTS, {"event": "old"}, id=f"{old}000-{number + 1}")
    stream = EventStream(redis_server, EVENTS, timedelta(days=9))
    stream.append_all([Append("LAMP", 1, 0, 1, [StreamEvent(1, b"1")])])
    check_all(stream)
    incarnation, version = redis_server.get(INCARNATION), 1

    def append_the_next(stream: EventStream) -> None:
        nonlocal version
        entry = StreamEvent(version + 1, str(version + 1).encode(), "channel", b"m")
        stream.append_all([Append("LAMP", 1, version, version + 1, [entry])])
        version += 1

    with of_the_relay(redis_server) as client:
        stream = EventStream(client, EVENTS, timedelta(days=7))
        acl: Any = redis_server.execute_command
        acl("ACL", "SETUSER", "relay", f"-{command}")
        for run in (append_the_next, check_all) * 2:
            with suppress(Unavailable):
                run(stream)
        acl("ACL", "SETUSER", "relay", f"+{command}")
        append_the_next(stream)
        stream.is_complete("home")
    assert redis_server.hget(TOLD, "") == b"home"

    entries: Any = redis_server.xrange(EVENTS)
    bodies = [fields[b"event"] for _, fields in entries]
    assert len(bodies) < 300
    assert [int(body) for body in bodies if body != b"old"] == [*range(1, version + 1)]
    assert redis_server.get(INCARNATION) == incarnation


def append_one(stream: EventStream) -> None:
    stream.append_all([Append("SOFA", 1, 0, 1, [StreamEvent(1, b'{"subject": "SOFA", "sequence": "1"}')])])


def check_all(stream: EventStream) -> None:
    stream.is_complete("home")
    stream.end_check(stream.begin_check("home"), "home")


@pytest.mark.parametrize("command", STEPS)
@pytest.mark.parametrize("run", [append_one, check_all])
@pytest.mark.parametrize("do_harm", [trim, add_with_an_id_that_is_the_last])
def test_a_step_that_is_refused_while_a_stranger_is_noticed_loses_nothing(
    service: Service,
    redis_server: redis.Redis,
    do_harm: Callable[[redis.Redis], None],
    run: Callable[[EventStream], None],
    command: str,
) -> None:
    a_history(service)
    tell_all(service)
    do_harm(redis_server)

    with of_the_relay(redis_server) as client:
        acl: Any = redis_server.execute_command
        acl("ACL", "SETUSER", "relay", f"-{command}")
        for _ in range(2):
            with suppress(Unavailable):
                run(EventStream(client, EVENTS, timedelta(days=7)))
    service.backfill.fill()
    service.backfill.fill()

    assert sequences(redis_server, "LAMP")[-5:] == [1, 2, 3, 4, 5]
    assert service.backfill.stream.is_complete(service.backfill.stream.home())


def test_each_incarnation_of_the_stream_has_a_mark(redis_server: redis.Redis) -> None:
    stream = EventStream(redis_server, EVENTS, timedelta(days=7))
    marks = []
    for forget in (forget_the_stream, forget_everything, lambda server: server.delete(INCARNATION)):
        forget(redis_server)
        for sku in ("LAMP", "SOFA"):
            stream.append_all([Append(sku, 1, 0, 1, [StreamEvent(1, b"{}")])])
            marks.append(redis_server.get(INCARNATION))

    assert [marks.count(mark) for mark in marks] == [2] * 6
    assert None not in marks


def test_a_token_that_nobody_can_have_is_no_obstacle(redis_server: redis.Redis) -> None:
    stream = one_event(redis_server)
    redis_server.hset(TOLD, "LAMP", f"{10**18}:0")

    stream.append_all([Append("LAMP", 2, 0, 1, [StreamEvent(1, b"{}")])])

    assert redis_server.hget(TOLD, "LAMP") == b"2:1"


@pytest.mark.parametrize("version", [0, 1, 99])
def test_a_token_that_is_years_ahead_stops_neither_its_subject_nor_others(
    service: Service, redis_server: redis.Redis, version: int
) -> None:
    for sku in ("LAMP", "SOFA"):
        a_history(service, sku)
    tell_all(service)
    redis_server.hset(TOLD, "LAMP", f"{int((time.time() + 11 * 365 * 86_400) * 1_000_000)}:{version}")
    service.bus.handle(commands.CreateBatch("later", "LAMP", 1))

    tell_all(service)
    redis_server.hdel(TOLD, "SOFA", "")
    for _ in range(2):
        with suppress(Unavailable):
            service.backfill.fill()

    assert wait_for(lambda: service.relay.deliver(PUBLISH) or 6 in sequences(redis_server, "LAMP"), within=20.0)
    assert sequences(redis_server, "LAMP")[-6:] == [1, 2, 3, 4, 5, 6]
    assert sequences(redis_server, "SOFA") == [1, 2, 3, 4, 5] * 2


def test_what_is_beside_the_stream_and_not_ours_is_named(
    service: Service, redis_server: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for sku in ("LAMP", "SOFA"):
        a_history(service, sku)
    tell_all(service)
    redis_server.hset(TOLD, mapping={"LAMP": "junk", "nobody": "1:2:3"})

    assert service.backfill.fill() == 5

    [said] = [record for record in caplog.records if record.message == "what redis has beside the stream is not ours"]
    assert vars(said)["subjects"] == ["LAMP"]


def test_what_was_claimed_by_a_clock_that_was_years_ahead_is_published_all_the_same(
    service: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    """Tokens are moments of the database's clock, and only rise."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    tell_all(service)
    sql("UPDATE deliveries SET token = 1000000 * extract(epoch FROM now() + interval '20 years')")

    for qty in (9, 8, 7):
        service.bus.handle(commands.ChangeBatchQuantity("b1", qty))
        tell_all(service)
        service.backfill.fill()

    assert sequences(redis_server, "LAMP") == [1, 2, 3, 4]


def test_a_full_redis_lets_go_of_what_is_old_though_nothing_is_published(crashing_redis: Redis) -> None:
    with redis_client(crashing_redis.url) as client:
        old = int(client.time()[0]) - 8 * 86_400
        with client.pipeline() as pipeline:
            for number in range(6_000):
                pipeline.xadd(EVENTS, {"event": "x" * 400}, id=f"{old}000-{number + 1}")
            pipeline.execute()
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 100_000)
        stream = EventStream(client, EVENTS, timedelta(days=7))
        appends = [Append("LAMP", 1, 0, 1, [StreamEvent(1, b"{}")])]
        with pytest.raises(Unavailable, match="maxmemory"):
            stream.append_all(appends)
        assert client.xlen(EVENTS) == 6_000

        assert not stream.is_complete("home")

        assert client.xlen(EVENTS) < 200
        stream.append_all(appends)
        assert client.hget(TOLD, " lost") is None, "nothing is lost that should be there"


# --- who looks whether anything is missing -----------------------------------


def one_event(redis_server: redis.Redis) -> EventStream:
    stream = EventStream(redis_server, EVENTS, timedelta(days=7))
    stream.append_all([Append("LAMP", 1, 0, 1, [StreamEvent(1, b"{}")])])
    return stream


def test_a_check_does_not_end_with_the_mark_of_another_that_began_after_a_loss(redis_server: redis.Redis) -> None:
    """Its own mark went with what was lost, and what it had compared before."""
    stream = one_event(redis_server)
    ours = stream.begin_check("home")
    forget_everything(redis_server)
    one_event(redis_server).begin_check("home")  # another relay, killed before it has ended

    stream.end_check(ours, "home")

    assert not stream.is_complete("home")


def test_what_another_relay_has_compared_is_not_taken_for_complete_by_one_that_has_compared_elsewhere(
    redis_server: redis.Redis,
) -> None:
    ours, theirs = one_event(redis_server), EventStream(redis_server, EVENTS, timedelta(days=7))
    ours.end_check(ours.begin_check("elsewhere"), "elsewhere")
    assert ours.is_complete("elsewhere")

    theirs.end_check(theirs.begin_check("here"), "here")

    assert theirs.is_complete("here")
    assert not ours.is_complete("here")


def test_of_several_that_check_at_once_the_first_to_end_says_that_all_is_there(redis_server: redis.Redis) -> None:
    """Else those that always begin before another has ended would check for ever."""
    stream = one_event(redis_server)
    ours, theirs = stream.begin_check("home"), stream.begin_check("home")

    stream.end_check(ours, "home")

    assert stream.is_complete("home")
    stream.end_check(theirs, "home")
    assert stream.is_complete("home")


def test_of_several_that_check_at_once_the_slower_has_compared_too(
    service: Service, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would begin again, and the others with it, and so for ever."""
    a_history(service)
    tell_all(service)
    other = EventStream(redis_server, EVENTS, timedelta(days=7))
    versions = EventStream.versions

    def slowly(stream: EventStream, skus: Sequence[str]) -> list[int]:
        other.end_check(other.begin_check(other.home()), other.home())
        return versions(stream, skus)

    with monkeypatch.context() as patch:
        patch.setattr(EventStream, "versions", slowly)
        service.backfill.fill()

    assert service.backfill.stream.is_complete(service.backfill.stream.home())
    assert other.is_complete(other.home())


def test_a_check_that_nobody_ended_does_not_hold_up_the_next(redis_server: redis.Redis) -> None:
    stream = one_event(redis_server)
    stream.begin_check("home")

    stream.end_check(stream.begin_check("home"), "home")

    assert stream.is_complete("home")


def test_events_of_many_are_published_in_one_round_trip_though_redis_has_forgotten_the_script(
    redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = one_event(redis_server)
    redis_server.script_flush()
    sent: list[object] = []
    send = AbstractConnection.send_packed_command

    def note(self: AbstractConnection, command: Any, check_health: bool = True) -> None:
        sent.append(command)
        send(self, command, check_health)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(AbstractConnection, "send_packed_command", note)

    stream.append_all([Append(sku, 1, 0, 1, [StreamEvent(1, b"{}")]) for sku in ("SOFA", "TABLE")])

    assert len(sent) == 1
    assert stream.versions(["SOFA", "TABLE"]) == [1, 1]


def test_a_new_address_gets_all_that_is_young_enough(
    service: Service, settings: Settings, tmp_path: Path, redis_server: redis.Redis
) -> None:
    a_history(service)
    tell_all(service)
    elsewhere = Redis(tmp_path / "elsewhere", durable=False)
    elsewhere.start()
    moved = bootstrap(Settings(database_url=settings.database_url, redis_url=elsewhere.url, home=tmp_path))
    try:
        assert moved.backfill.fill() == 5
        assert sequences(moved.redis, "LAMP") == [1, 2, 3, 4, 5]
    finally:
        moved.close()
        elsewhere.stop()


def test_says_when_redis_is_away() -> None:
    stream = EventStream(redis_client("redis://127.0.0.1:1/0"), EVENTS, timedelta(days=7))

    with pytest.raises(Unavailable, match="redis"):
        stream.home()
