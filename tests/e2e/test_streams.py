"""Commands in and events out over Redis streams, with real processes that are killed."""

from __future__ import annotations

import pytest
from tests.e2e.client import Client, random_batchref, random_orderid, random_sku
from tests.e2e.service import Service
from tests.e2e.waiting import eventually


def kinds(api: Client, sku: str) -> list[str]:
    return [event["type"].split(".")[1] for event in api.events(sku)]


def test_commands_take_effect_and_their_events_are_published(api: Client) -> None:
    sku, order, batch = random_sku(), random_orderid(), random_batchref()
    api.send("create_batch", ref=batch, sku=sku, qty=10)
    api.send("allocate", orderid=order, sku=sku, qty=4)
    api.send("change_batch_quantity", batchref=batch, qty=3)

    told = ["batch_created", "allocated", "batch_quantity_changed", "deallocated", "out_of_stock"]
    eventually(lambda: kinds(api, sku) == told, "all of it is told")
    assert [event["sequence"] for event in api.events(sku)] == ["1", "2", "3", "4", "5"]
    assert api.batches_of(order) == []


@pytest.mark.parametrize("victim", ["consume", "relay", "redis"])
def test_nothing_is_lost_and_nothing_has_two_effects_though_something_is_killed_meanwhile(
    service: Service, api: Client, victim: str
) -> None:
    sku, batch = random_sku(), random_batchref()
    api.send("create_batch", ref=batch, sku=sku, qty=1_000)
    eventually(lambda: kinds(api, sku), "the batch is there")
    orders = [random_orderid() for _ in range(120)]
    for order in orders:
        api.send("allocate", orderid=order, sku=sku, qty=1)
        if order == orders[60] and victim != "redis":
            service.kill(victim)
    if victim == "redis":
        eventually(lambda: all(map(api.batches_of, orders)), "all are allocated")
        service.kill_server("redis")
    api = service.until_ready()

    def allocated() -> dict[str, str]:
        return {event["id"]: event["data"]["orderid"] for event in api.events(sku) if "orderid" in event["data"]}

    eventually(lambda: len(allocated()) == len(orders), "all are told")
    assert list(allocated().values()) == orders, "each once, in the order sent"
    assert all(map(api.batches_of, orders))
