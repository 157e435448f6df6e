"""What comes and goes over Redis: the book's own test of it, and what a business needs besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock

import pytest
from tests.e2e.client import CHANGE_BATCH_QUANTITY, Client, random_batchref, random_orderid, random_sku
from tests.e2e.service import Service
from tests.e2e.waiting import eventually


def test_changing_a_batch_quantity_leads_to_reallocation(api: Client) -> None:
    sku, order, earlier, later = random_sku(), random_orderid(), random_batchref("old"), random_batchref("newer")
    api.add_batch(earlier, sku, 10, "2011-01-01")
    api.add_batch(later, sku, 10, "2011-01-02")
    with api.listening(sku) as published:
        api.allocate(order, sku, 10)
        assert published.about(order)["batchref"] == earlier

        api.change_batch_quantity(earlier, 5)

        told = published.about(order)
        assert api.allocations(order) == [{"sku": sku, "batchref": later}]
    assert {key: told[key] for key in ("orderid", "sku", "qty", "batchref")} == {
        "orderid": order,
        "sku": sku,
        "qty": 10,
        "batchref": later,
    }


def test_who_hears_of_an_allocation_can_read_it_at_once_and_hears_each_in_its_order(api: Client) -> None:
    skus = [random_sku(name) for name in "abc"]
    orders = {sku: [random_orderid(str(number)) for number in range(10)] for sku in skus}
    for sku in skus:
        api.add_batch(random_batchref(), sku, 10)

    def order_all(sku: str) -> None:
        for order in orders[sku]:
            api.allocate(order, sku)

    heard: dict[str, list[str]] = {sku: [] for sku in skus}
    with api.listening(*skus) as published, ThreadPoolExecutor() as customers:
        asking = customers.map(order_all, skus)
        for _ in range(30):
            told = published.next()
            heard[told["sku"]].append(told["orderid"])
            assert api.allocations(told["orderid"]) == [{"sku": told["sku"], "batchref": told["batchref"]}]
        list(asking)

    assert heard == orders


@pytest.mark.parametrize("answered_before", [0, 2, 4, 6, 8, 10])
def test_orders_racing_a_quantity_change_never_oversell(api: Client, answered_before: int) -> None:
    sku, cut, spare = random_sku(), random_batchref("cut"), random_batchref("spare")
    orders = [random_orderid() for _ in range(20)]
    api.add_batch(cut, sku, 20)
    api.add_batch(spare, sku, 15, "2011-01-01")

    with ThreadPoolExecutor(4) as clients:
        asking = clients.map(lambda order: api.allocate(order, sku), orders)
        for _ in range(answered_before):
            next(asking)
        api.change_batch_quantity(cut, 5)
        list(asking)

    kept_and_moved = sorted([cut] * 5 + [spare] * 15)
    eventually(
        lambda: sorted(batch for order in orders for batch in api.batches_of(order)) == kept_and_moved,
        f"5 orders are in {cut}, and 15 in {spare}",
    )


def test_a_reader_never_sees_a_line_missing_while_it_moves(api: Client) -> None:
    sku, order, one, two = random_sku(), random_orderid(), random_batchref("1"), random_batchref("2")
    api.add_batch(one, sku, 10)
    api.add_batch(two, sku, 10)
    with api.listening(sku) as published:
        api.allocate(order, sku, 10)
        assert published.about(order)["batchref"] == one

        with watching(lambda: api.batches_of(order)) as seen:
            for here, there in [(one, two), (two, one)] * 4:
                api.change_batch_quantity(here, 0)
                assert published.about(order)["batchref"] == there
                api.change_batch_quantity(here, 10)

    assert [one] in seen
    assert [two] in seen
    assert all(answer in ([one], [two]) for answer in seen)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"batchref": "b1", "qty"', id="half"),
        pytest.param(b'\xff\xfe{"batchref": "b1", "qty": 5}', id="not-text"),
        pytest.param(b"", id="empty"),
        pytest.param(b"null", id="null"),
        pytest.param(b'["b1", 5]', id="list"),
        pytest.param(b'{"batchref": 1, "qty": "five"}', id="wrong-types"),
        pytest.param(b'{"batchref": "b1", "qty": -1}', id="negative"),
        pytest.param(b'{"batchref": "b1", "qty": 1' + b"0" * 5_000 + b"}", id="huge-number"),
        pytest.param(b'{"batchref": "\\ud800 \\u0000", "qty": 5}', id="not-unicode"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"batchref": "a batch that nobody knows", "qty": 5}', id="unknown-batch"),
    ],
)
def test_a_bad_message_is_kept_and_the_next_one_takes_effect(api: Client, service: Service, body: bytes) -> None:
    sku, order, earlier, later = random_sku(), random_orderid(), random_batchref("old"), random_batchref("newer")
    api.add_batch(earlier, sku, 10)
    api.add_batch(later, sku, 10, "2011-01-01")
    with api.listening(sku) as published:
        api.allocate(order, sku, 10)
        assert published.about(order)["batchref"] == earlier
        kept_before = dead_letters(service, body)

        api.say(CHANGE_BATCH_QUANTITY, body)
        api.change_batch_quantity(earlier, 5)

        assert published.about(order)["batchref"] == later
    assert dead_letters(service, body) == kept_before + 1


def dead_letters(service: Service, body: bytes) -> int:
    with service.database() as database:
        (count,) = database.execute("SELECT count(*) FROM dead_letters WHERE body = %s", [body]).fetchone() or (0,)
    return int(count)


@contextmanager
def watching(question: Callable[[], list[str]]) -> Iterator[list[list[str]]]:
    """Asks all the time, from several threads, and keeps the answers."""
    stop, lock = Event(), Lock()
    seen: list[list[str]] = []

    def watch() -> None:
        while not stop.is_set():
            answer = question()
            with lock:
                seen.append(answer)

    with ThreadPoolExecutor(3) as watchers:
        tasks = [watchers.submit(watch) for _ in range(3)]
        try:
            yield seen
        finally:
            stop.set()
        for task in tasks:
            task.result()
