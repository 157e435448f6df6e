"""The second service beside the first, over Redis: what is out of stock is bought and promised after all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from examples.buying import Buying
from tests.integration.threads import at_work

from allocation.adapters.redis_channels import COMMANDS, EVENTS
from allocation.bootstrap import Service
from allocation.domain import commands
from allocation.entrypoints import redis_commands
from allocation.service_layer.routing import PUBLISH_EVENT
from embedded.waiting import wait_for

PROGRAM = Path(__file__).parents[2] / "examples/buying.py"
Sql = Callable[..., list[tuple[Any, ...]]]


def tell_all(service: Service) -> None:
    while service.relay.deliver(PUBLISH_EVENT):
        pass


@pytest.fixture
def out_of_stock(service: Service) -> Service:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1))
    service.bus.handle(commands.Allocate("o1", "LAMP", 5))
    tell_all(service)
    return service


def test_what_is_out_of_stock_is_bought_and_promised_once_though_the_event_comes_twice(
    out_of_stock: Service, redis_server: redis.Redis, sql: Sql
) -> None:
    buying = Buying(redis_server)
    assert buying.handle_what_is_there() == 2
    entries: Any = redis_server.xrange(EVENTS)
    redis_server.xadd(EVENTS, entries[-1][1])

    assert buying.handle_what_is_there() == 1

    assert redis_server.xlen(COMMANDS) == 4
    with at_work(partial(redis_commands.run, out_of_stock)):
        assert wait_for(lambda: settled(redis_server), within=20), "the commands were not handled"
    bought = "SELECT purchased_quantity, allocated_quantity FROM batches WHERE reference LIKE 'bought-%'"
    assert sql(bought) == [(5, 5)]
    assert [row["batchref"][:7] for row in out_of_stock.views.allocations("o1") or []] == ["bought-"]
    tell_all(out_of_stock)
    assert buying.handle_what_is_there() == 2, "its batch, and the promise"
    assert redis_server.xlen(COMMANDS) == 4, "and no more to buy"


@pytest.mark.usefixtures("out_of_stock")
def test_run_by_itself_it_says_what_it_buys(redis_server: redis.Redis, redis_url: str) -> None:
    environment = os.environ | {"REDIS_URL": redis_url}
    with subprocess.Popen([sys.executable, PROGRAM], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert wait_for(lambda: redis_server.xlen(COMMANDS) == 2, within=20), "it did not ask"
        finally:
            process.terminate()
        _, said = process.communicate(timeout=20)

    assert said == "reads allocation.events, until Ctrl-C\nbuys 5 of LAMP for order o1\n"


def settled(redis_server: redis.Redis) -> bool:
    groups: Any = redis_server.xinfo_groups(COMMANDS)
    last: Any = redis_server.xinfo_stream(COMMANDS)
    return any(group["last-delivered-id"] == last["last-generated-id"] and not group["pending"] for group in groups)


def test_a_version_that_it_does_not_know_is_parked(out_of_stock: Service, redis_server: redis.Redis) -> None:
    entries: Any = redis_server.xrange(EVENTS)
    newer = json.loads(entries[-1][1][b"event"]) | {"type": "allocation.out_of_stock.v2"}
    redis_server.delete(EVENTS)
    redis_server.xadd(EVENTS, {"event": json.dumps(newer)})
    buying = Buying(redis_server)

    assert buying.handle_what_is_there() == 1

    assert redis_server.xlen(COMMANDS) == 0
    parked: Any = redis_server.xrange("buying.parked")
    assert [json.loads(fields[b"event"]) for _, fields in parked] == [newer]


def test_what_was_read_and_not_finished_is_done_by_the_next(out_of_stock: Service, redis_server: redis.Redis) -> None:
    Buying(redis_server)
    redis_server.xreadgroup("buying", "reader", {EVENTS: ">"})

    assert Buying(redis_server).handle_what_is_there() == 2

    assert redis_server.xlen(COMMANDS) == 2
