"""Pub/sub reaches every subscriber; what is said there takes effect at most once, whoever listens."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import redis
from sqlalchemy import text
from tests.integration.threads import at_work

from allocation.bootstrap import Service
from allocation.domain import commands
from allocation.entrypoints.redis_eventconsumer import handle, run
from embedded.waiting import wait_for
from messaging.sql.connections import connection
from messaging.sql.exclusive import Occupied

Sql = Callable[..., list[tuple[Any, ...]]]
CHANNEL = "change_batch_quantity"
PATIENCE = 20.0


def listeners(redis_server: redis.Redis) -> int:
    return sum(count for _, count in redis_server.pubsub_numsub(CHANNEL))


def quantities(sql: Sql) -> list[int]:
    return [qty for (qty,) in sql("SELECT (data->>'qty')::int FROM event_log WHERE version > 1 ORDER BY version")]


def test_of_two_consumers_one_listens_and_each_message_takes_effect_once_in_order(
    service: Service, another: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1_000))
    with at_work(partial(run, service)), at_work(partial(run, another)):
        assert wait_for(lambda: listeners(redis_server) == 1, within=PATIENCE)
        for qty in range(1, 31):
            assert redis_server.publish(CHANNEL, json.dumps({"batchref": "b1", "qty": qty})) == 1

        assert wait_for(lambda: len(quantities(sql)) == 30, within=PATIENCE)

    assert quantities(sql) == list(range(1, 31))


def test_when_the_one_that_listens_is_gone_another_does(
    service: Service, another: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1_000))
    with ExitStack() as both:
        with at_work(partial(run, service)):
            assert wait_for(lambda: listeners(redis_server) == 1, within=PATIENCE)
            both.enter_context(at_work(partial(run, another)))
        assert wait_for(lambda: listeners(redis_server) == 1, within=5)

        redis_server.publish(CHANNEL, json.dumps({"batchref": "b1", "qty": 5}))

        assert wait_for(lambda: quantities(sql) == [5], within=PATIENCE)


def test_the_server_soon_notices_that_the_machine_of_the_holder_is_gone(service: Service) -> None:
    with connection(service.pubsub_bus.engine) as holder:
        rows = holder.execute(text("SELECT setting FROM pg_settings WHERE name ~ '^tcp_keepalives_' ORDER BY name"))

        assert rows.scalars().all() == ["2", "2", "1"], "count, idle, interval"


def test_who_lost_the_bridge_cannot_let_a_late_message_take_effect(
    service: Service, another: Service, sql: Sql
) -> None:
    """The holder's connection is cut, another takes over, and only then the first gets round to a message it has."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1_000))
    assert service.pubsub_bus.is_ours()
    assert not another.pubsub_bus.is_ours()

    sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database IS NOT NULL")
    assert wait_for(another.pubsub_bus.is_ours, within=PATIENCE)

    with pytest.raises(Occupied):
        handle(service, json.dumps({"batchref": "b1", "qty": 5}).encode())
    handle(another, json.dumps({"batchref": "b1", "qty": 6}).encode())
    assert quantities(sql) == [6]


def test_messages_ids_are_forgotten_when_nobody_can_ask_for_them_any_more(service: Service, sql: Sql) -> None:
    for number in range(5):
        service.bus.handle(commands.CreateBatch(f"b{number}", "LAMP", 10), message_id=f"m{number}")
    with service.engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET received_at = now() - interval '25 hours' WHERE message_id < 'm3'"))

    assert service.housekeeping.forget_old_messages() == 3

    assert sql("SELECT message_id FROM inbox ORDER BY 1") == [("m3",), ("m4",)]
