"""A consumer that was replaced while it was frozen does not know it yet, and reads on: that must hold nothing up."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
import redis

from allocation.adapters.redis_channels import COMMANDS
from allocation.bootstrap import Service
from allocation.domain.commands import CreateBatch
from allocation.entrypoints.redis_commands import run
from embedded.waiting import wait_for

Sql = Callable[..., list[tuple[Any, ...]]]
GROUP = "allocation"


def command(number: int, kind: str, **data: Any) -> dict[Any, Any]:
    event = {"specversion": "1.0", "id": f"m{number}", "source": "/shop", "type": f"allocation.{kind}.v1", "data": data}
    return {"command": json.dumps(event)}


def consumers(redis_server: redis.Redis) -> list[bytes]:
    try:
        return [found["name"] for found in redis_server.xinfo_consumers(COMMANDS, GROUP)]
    except redis.ResponseError:  # there is no group yet
        return []


def end_the_group_at_an_entry_that_is_gone(redis_server: redis.Redis) -> None:
    """So that nobody can say how far the stream is handled."""
    redis_server.xgroup_create(COMMANDS, GROUP, mkstream=True)
    entry = redis_server.xadd(COMMANDS, {"command": "one that was handled by a release that kept no position"})
    redis_server.xreadgroup(GROUP, "early", {COMMANDS: ">"})
    redis_server.xack(COMMANDS, GROUP, entry)
    redis_server.xdel(COMMANDS, entry)


@pytest.mark.parametrize("later", [[], [7, 9]], ids=["and nothing comes after", "and more comes after"])
@pytest.mark.parametrize("is_known", [True, False], ids=["its position is known", "nobody knows its position"])
def test_what_a_replaced_consumer_has_read_takes_effect_in_its_order(
    service: Service, redis_server: redis.Redis, sql: Sql, later: list[int], *, is_known: bool
) -> None:
    def quantities() -> list[int]:
        changes = "SELECT data ->> 'qty' FROM event_log WHERE type = 'batch_quantity_changed.v1' ORDER BY position"
        return [int(qty) for (qty,) in sql(changes)]

    if not is_known:
        end_the_group_at_an_entry_that_is_gone(redis_server)
        service.bus.handle(CreateBatch("b1", "LAMP", 10))
    stop = Event()
    at_work = Thread(target=run, args=(service, stop))
    at_work.start()
    try:
        if is_known:
            redis_server.xadd(COMMANDS, command(0, "create_batch", ref="b1", sku="LAMP", qty=10))
        assert wait_for(lambda: sql("SELECT 1 FROM products") == [(1,)], within=20.0)
        assert wait_for(lambda: consumers(redis_server) not in ([], [b"early"]), within=20.0), "nobody reads"

        with redis_server.pipeline(transaction=True) as at_once:  # before the one at work can read any of it
            at_once.xadd(COMMANDS, command(1, "change_batch_quantity", batchref="b1", qty=3))
            at_once.xreadgroup(GROUP, "late", {COMMANDS: ">"})
            for number, qty in enumerate(later, start=2):
                at_once.xadd(COMMANDS, command(number, "change_batch_quantity", batchref="b1", qty=qty))
            at_once.execute()

        assert wait_for(lambda: quantities() == [3, *later], within=20.0), quantities()
        assert wait_for(lambda: redis_server.xpending(COMMANDS, GROUP)["pending"] == 0, within=20.0)
    finally:
        stop.set()
        at_work.join()
