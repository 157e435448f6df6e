"""Whatever is killed comes back by itself, and nothing that was answered is lost."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from tests.e2e.client import Client, assert_works, random_batchref, random_orderid, random_sku
from tests.e2e.processes import frozen
from tests.e2e.service import PARTS, Service
from tests.e2e.waiting import eventually


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_is_started_again(service: Service, part: str) -> None:
    service.kill(part)

    assert_works(service.until_ready())


def test_workers_are_replaced_though_they_are_killed_again_within_a_second(service: Service, api: Client) -> None:
    before = service.pid_of("serve")
    for _ in range(3):
        service.kill_workers()

    eventually(api.is_ready, "the last ones answer")
    assert_works(api)
    assert service.pid_of("serve") == before, "the API itself went on"


def test_an_event_survives_the_api_that_was_killed_after_its_answer(service: Service, api: Client) -> None:
    sku, order = random_sku(), random_orderid()
    api.add_batch(random_batchref(), sku, 10)
    with api.listening(sku) as published:
        api.allocate(order, sku)
        service.kill_api()

        assert published.about(order)["sku"] == sku
    assert service.until_ready().batches_of(order)


def test_an_event_survives_when_the_relay_and_then_the_api_are_killed(service: Service, api: Client) -> None:
    sku, order = random_sku(), random_orderid()
    api.add_batch(random_batchref(), sku, 10)
    with api.listening(sku) as published:
        with frozen(service.pid):  # so that the relay is not back before the API is gone
            service.kill("relay")
            api.allocate(order, sku)
            service.kill_api()

        assert published.about(order)["sku"] == sku
    assert_works(service.until_ready())


def test_a_killed_redis_comes_back_and_what_happened_meanwhile_is_published(service: Service, api: Client) -> None:
    sku, order, batch, spare = random_sku(), random_orderid(), random_batchref(), random_batchref("spare")
    api.add_batch(batch, sku, 10)
    api.add_batch(spare, sku, 10)
    relay = service.pid_of("relay")
    with ExitStack() as relay_waits:
        with frozen(service.pid_of_server("supervisor")):  # Redis stays away until the relay has noticed
            service.kill_server("redis")
            api.allocate(order, sku, 10)
            eventually(lambda: failed_to_tell(service, sku), "the relay has tried to tell of the order")
            relay_waits.enter_context(frozen(relay))
        service.until_ready()
        with api.listening(sku) as published:
            relay_waits.close()
            assert published.about(order)["batchref"] == batch
            api.change_batch_quantity(batch, 0)
            assert published.about(order)["batchref"] == spare


def test_a_killed_postgresql_comes_back_with_all_that_was_stored(service: Service, api: Client) -> None:
    sku, order, batch = random_sku(), random_orderid(), random_batchref()
    api.add_batch(batch, sku, 10)
    api.allocate(order, sku)

    service.kill_server("postgres")

    api = service.until_ready()
    assert api.batches_of(order) == [batch]
    assert_works(api)


def failed_to_tell(service: Service, sku: str) -> bool:
    with service.database() as database:
        query = "SELECT 1 FROM outbox WHERE stream = %s AND attempts > 0"
        return database.execute(query, [sku]).fetchone() is not None
