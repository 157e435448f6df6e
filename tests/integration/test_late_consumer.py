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
from allocation.entrypoints.redis_commands import run
from embedded.waiting import wait_for

Sql = Callable[..., list[tuple[Any, ...]]]
GROUP = "allocation"


def command(number: int, kind: str, **data: Any) -> dict[Any, Any]:
    event = {"specversion": "1.0", "id": f"m{number}", "source": "/shop", "type": f"allocation.{kind}.v1", "data": data}
    return {"command": json.dumps(event)}


@pytest.mark.parametrize("later", [[], [7, 9]], ids=["and nothing comes after", "and more comes after"])
def test_what_a_replaced_consumer_has_read_takes_effect_in_its_order(
    service: Service, redis_server: redis.Redis, sql: Sql, later: list[int]
) -> None:
    def quantities() -> list[int]:
        changes = "SELECT data ->> 'qty' FROM event_log WHERE type = 'batch_quantity_changed.v1' ORDER BY position"
        return [int(qty) for (qty,) in sql(changes)]

    stop = Event()
    at_work = Thread(target=run, args=(service, stop))
    at_work.start()
    try:
        redis_server.xadd(COMMANDS, command(0, "create_batch", ref="b1", sku="LAMP", qty=10))
        assert wait_for(lambda: sql("SELECT 1 FROM products") == [(1,)], within=20.0)

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
