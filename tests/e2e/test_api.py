"""The book's end-to-end tests of the API."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.client import Client, random_batchref, random_orderid, random_sku
from tests.e2e.conftest import Mailbox
from tests.e2e.service import Service
from tests.e2e.waiting import eventually


def test_an_order_is_allocated_to_the_earliest_batch_of_its_product(api: Client) -> None:
    sku, other_sku = random_sku(), random_sku("other")
    early, later, other, order = random_batchref("1"), random_batchref("2"), random_batchref("3"), random_orderid()
    api.add_batch(later, sku, 100, "2011-01-02")
    api.add_batch(early, sku, 100, "2011-01-01")
    api.add_batch(other, other_sku, 100)

    api.allocate(order, sku, 3)

    assert api.allocations(order) == [{"sku": sku, "batchref": early}]


def test_an_order_for_an_unknown_product_is_refused_and_leaves_no_trace(api: Client) -> None:
    sku, order = random_sku("unknown"), random_orderid()

    answer = api.try_to_allocate(order, sku, 20)

    assert (answer.status_code, answer.json()) == (400, {"message": f"Invalid sku {sku}"})
    assert api.allocations(order) == []


def test_an_order_may_have_any_printable_name(api: Client) -> None:
    sku, batch, order = random_sku("ΔÉЖ椅🪑"), random_batchref("%2F?#&"), random_orderid("a/b//../?x=1#é 椅%20")
    api.add_batch(batch, sku, 10)

    api.allocate(order, sku)

    assert api.allocations(order) == [{"sku": sku, "batchref": batch}]


def test_the_stock_team_is_mailed_when_a_product_is_out_of_stock(api: Client, mails: Mailbox) -> None:
    sku = random_sku("ÄRMEL-КРЕСЛО-椅子🪑")
    api.add_batch(random_batchref(), sku, 9)

    api.allocate(random_orderid(), sku, 10)

    eventually(lambda: mails.about(sku), "the mail has come")
    (mail,) = mails.about(sku)
    assert (mail["From"], mail["To"]) == ("allocations@example.com", "stock@made.com")
    assert mail["Subject"] == f"Out of stock for {sku}"
    assert f"Out of stock for {sku}" in mail.get_content()


def test_a_large_body_that_is_announced_and_never_sent_is_not_waited_for(api: Client) -> None:
    begun = time.monotonic()

    status, _ = api.ask_raw(
        "POST /allocate HTTP/1.1", "Host: x", "Content-Type: application/json", "Content-Length: 1000000"
    )

    assert status == 413
    assert time.monotonic() - begun < 4


def test_a_path_with_one_slash_too_many_is_another_path(api: Client) -> None:
    status, body = api.ask_raw("GET //add_batch HTTP/1.1", "Host: x", "Connection: close")

    assert (status, list(body)) == (404, ["message"])


def test_the_last_units_are_sold_once_whoever_asks_at_the_same_time(api: Client, mails: Mailbox) -> None:
    sku, orders = random_sku(), [random_orderid() for _ in range(40)]
    api.add_batch(random_batchref(), sku, 20)

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda order: api.try_to_allocate(order, sku).status_code, orders))

    assert answers == [202] * 40
    assert sum(bool(api.allocations(order)) for order in orders) == 20
    eventually(lambda: len(mails.about(sku)) == 20, "each of the others is told of as out of stock")


def test_the_same_line_from_many_clients_is_allocated_once(api: Client) -> None:
    sku, order, last = random_sku(), random_orderid(), random_orderid("last")
    api.add_batch(random_batchref(), sku, 2)

    with api.listening(sku) as published:
        with ThreadPoolExecutor(16) as clients:
            answers = list(clients.map(lambda _: api.try_to_allocate(order, sku).status_code, range(32)))
        api.allocate(last, sku)
        told = [published.next()["orderid"], published.next()["orderid"]]

    assert answers == [202] * 32
    assert told == [order, last], "one promise is told of once, and the second unit was still there"
    assert len(api.allocations(order)) == 1


def test_fifty_clients_with_one_key_make_one_allocation_and_get_one_answer(api: Client) -> None:
    sku, batch, key = random_sku(), random_batchref(), random_orderid("key")
    api.add_batch(batch, sku, 1_000)

    def ask(_: int) -> tuple[int, str]:
        while True:
            answer = api.try_to_allocate("same", sku, 7, key=key)
            if answer.status_code != 409:
                return answer.status_code, answer.text
            assert answer.headers["Retry-After"]

    with ThreadPoolExecutor(50) as clients:
        answers = [*clients.map(ask, range(50))]

    assert len(set(answers)) == 1
    status, text = answers[0]
    assert (status, json.loads(text)["batchref"]) == (202, batch)
    eventually(lambda: len(api.events(sku)) == 2, "the batch and one allocation are told")
    assert api.try_to_allocate("another", sku, 7, key=key).status_code == 422


def test_equal_lines_of_an_order_are_told_apart_by_their_line_ids(api: Client) -> None:
    sku, batch, order = random_sku(), random_batchref(), random_orderid()
    api.add_batch(batch, sku, 10)

    api.allocate(order, sku, 2, lineid="1")
    api.allocate(order, sku, 2, lineid="2")
    api.allocate(order, sku, 2, lineid="2")

    assert api.batches_of(order) == [batch, batch]


def test_more_than_can_be_done_in_time_is_put_off_and_never_done_by_halves(api: Client, service: Service) -> None:
    """All threads of the API wait for a product that somebody else has locked; those behind them wait for a thread."""
    sku = random_sku()
    api.add_batch(random_batchref(), sku, 1000)
    orders = [random_orderid(str(number)) for number in range(100)]
    with service.database() as database, ThreadPoolExecutor(len(orders)) as clients:
        database.execute("SELECT 1 FROM products WHERE sku = %s FOR UPDATE", (sku,))
        asked = [clients.submit(api.try_to_allocate, order, sku, 1) for order in orders]
        eventually(
            lambda: any(one.done() and "overloaded" in one.result().text for one in asked), "somebody is put off"
        )
        database.rollback()
        answers = {order: one.result() for order, one in zip(orders, asked, strict=True)}

    put_off = {order for order, answer in answers.items() if answer.status_code == 503}
    assert all(answers[order].headers["Retry-After"] == "1" for order in put_off)
    assert {answers[order].status_code for order in orders} == {202, 503}
    for order in orders:
        assert bool(api.allocations(order)) == (order not in put_off)
