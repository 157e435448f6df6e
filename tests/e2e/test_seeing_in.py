"""What can be seen from outside: one id wherever its request led, and numbers that add up, whoever is asked."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import requests
from tests.e2e.client import CHANGE_BATCH_QUANTITY, Client, random_batchref, random_orderid, random_sku
from tests.e2e.conftest import Mailbox
from tests.e2e.service import Service
from tests.e2e.waiting import eventually


def logged(service: Service, correlation_id: str) -> list[tuple[str, str]]:
    """Who has logged what about it."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in service.said().splitlines() if line.startswith("{")]
    return [
        (line["logger"].rpartition(".")[2], line["event"])
        for line in lines
        if line.get("correlation_id") == correlation_id or correlation_id in line.get("correlation_ids", ())
    ]


def events(api: Client, sku: str, correlation_id: str) -> list[str]:
    return [event["type"].split(".")[1] for event in api.events(sku) if event["correlationid"] == correlation_id]


def test_one_id_is_in_all_that_follows_from_a_request_in_every_process(
    api: Client, service: Service, mails: Mailbox
) -> None:
    sku, batch, asked = random_sku(), random_batchref(), random_orderid("request")
    api.add_batch(batch, sku, 1)
    with service.database() as database:
        database.execute("SELECT 1 FROM products WHERE sku = %s FOR UPDATE", (sku,))
        put_off = api.try_to_allocate("o1", sku, 2, request_id=asked)
        database.rollback()
    assert (put_off.status_code, put_off.headers["X-Request-ID"]) == (503, asked)

    assert api.try_to_allocate("o1", sku, 2, request_id=asked).status_code == 202

    eventually(lambda: mails.about(sku), "the mail has come")
    assert [mail["X-Correlation-ID"] for mail in mails.about(sku)] == [asked]
    eventually(lambda: events(api, sku, asked) == ["out_of_stock"], "the event is told")
    eventually(lambda: ("notifications", "mailed") in logged(service, asked), "the relay says so")
    assert ("errors", "unavailable") in logged(service, asked), "the API said that it could not"


def test_one_id_comes_in_over_redis_and_goes_out_again(api: Client, service: Service) -> None:
    sku, batch, other = random_sku(), random_batchref(), random_batchref("other")
    sent, said, refused = (random_orderid(way) for way in ("sent", "said", "refused"))
    api.add_batch(batch, sku, 10)
    with api.listening(sku) as published:
        api.send("allocate", correlationid=sent, orderid=sent, sku=sku, qty=10)
        assert published.about(sent)["metadata"]["correlation_id"] == sent

        api.add_batch(other, sku, 10)
        change = {"batchref": batch, "qty": 5, "metadata": {"correlation_id": said}}
        api.say(CHANGE_BATCH_QUANTITY, json.dumps(change).encode())
        assert published.about(sent)["metadata"]["correlation_id"] == said
    api.send("change_batch_quantity", correlationid=refused, batchref="a batch that nobody knows", qty=1)

    told = ["batch_quantity_changed", "deallocated", "allocated"]
    eventually(lambda: events(api, sku, said) == told, "all that followed is told")
    eventually(lambda: ("redis_commands", "handled") in logged(service, sent), "the consumer says so")
    eventually(lambda: ("redis_eventconsumer", "handled") in logged(service, said), "and of the other way in")
    eventually(lambda: ("redis_commands", "refused") in logged(service, refused), "and what it has refused")


def test_numbers_add_up_over_all_processes_and_survive_a_killed_worker(api: Client, service: Service) -> None:
    sku, batch, before = random_sku(), random_batchref(), api.metrics()
    api.add_batch(batch, sku, 100)
    for _ in range(20):
        api.allocate(random_orderid(), sku)
    api.send("change_batch_quantity", batchref=batch, qty=50)
    eventually(lambda: len(api.events(sku)) == 22, "all is told")

    def more(series: str) -> float:
        return api.metrics()[series] - before.get(series, 0)

    count = 'allocation_http_request_duration_seconds_count{method="POST",route="/allocate",status="202"}'
    commands = 'allocation_commands_total{{command="{}",outcome="done"}}'
    told = 'allocation_effects_total{effect="publish_event",outcome="done"}'
    assert [more(count) for _ in range(10)] == [20] * 10, "whichever worker answers"
    assert more(commands.format("Allocate")) == 20
    eventually(lambda: more(commands.format("ChangeBatchQuantity")) == 1, "the consumer has counted")
    eventually(lambda: more(told) >= 22, "the relay has counted")
    assert api.metrics()['allocation_up{part="database"}'] == 1
    eventually(lambda: api.metrics()["allocation_commands_pending"] == 0, "nothing is left to do")

    def limit() -> float:
        with suppress(requests.ConnectionError):  # it went to the worker that was killed
            return api.metrics()["allocation_db_connections_limit"]
        return 0

    before_the_kill = limit()
    service.kill_worker()
    eventually(lambda: limit() == before_the_kill, "there are as many workers as before")
    assert more(count) == 20, "what the killed one has counted stays counted"
