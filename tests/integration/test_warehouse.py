"""Goods that come and go, on a real database: over HTTP, in pieces, and by many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import cycle
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from tests.integration.conftest import AtOnce, Sql

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain import allocating, commands, errors, ordering
from allocation.domain.commands import (
    Allocate,
    CancelOrder,
    ChangeBatchQuantity,
    CountBatch,
    CreateBatch,
    Dispatch,
    ParcelLine,
    Quarantine,
    ReleaseLine,
    ReturnLine,
)
from allocation.domain.lines import OrderLine
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from messaging.envelope import Metadata, Request
from messaging.errors import ConcurrencyConflict

Differences = Callable[[], list[str]]


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


@pytest.fixture
def two(settings: Settings) -> Iterator[list[Service]]:
    """As two processes."""
    services = [bootstrap(settings, connections=10) for _ in range(2)]
    yield services
    for service in services:
        service.close()


def given(service: Service, *asked: commands.Command) -> None:
    for command in asked:
        service.bus.handle(command)


# --- over HTTP -------------------------------------------------------------------


def by_ship(service: Service) -> None:
    given(service, CreateBatch("by ship/1", "LAMP", 100, eta=date(2031, 1, 1)))
    given(service, *(Allocate(order, "LAMP", qty) for order, qty in (("A", 50), ("B", 20), ("C", 10))))


RECEIPT = {"receipt_id": "r-1", "received": 60, "damaged": 5, "rest": {"ref": "later", "eta": "2031-02-01"}}


def test_a_receipt_says_who_moved_where_and_the_same_weeks_later(
    service: Service, client: FlaskClient, differences: Differences
) -> None:
    by_ship(service)

    first = client.post("/v1/batches/by%20ship%2F1/receipts", json=RECEIPT)
    given(service, ChangeBatchQuantity("later", 30), CreateBatch("more", "LAMP", 100))
    again = client.post("/v1/batches/by%20ship%2F1/receipts", json=RECEIPT)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == {
        "ref": "by ship/1",
        "sku": "LAMP",
        "qty": 60,
        "allocated": 50,
        "available": 5,
        "eta": None,
        "held": 0,
        "dispatched": 0,
        "quarantined": 5,
        "expires": None,
        "state": "received",
        "location": "",
        "moved": [
            {"orderid": order, "lineid": "LAMP", "sku": "LAMP", "qty": qty, "from": "by ship/1", "to": "later"}
            | {"outcome": "moved"}
            for order, qty in (("B", 20), ("C", 10))
        ],
    }
    assert (again.json or {})["moved"] == first.json["moved"]
    other = client.post("/v1/batches/by%20ship%2F1/receipts", json=RECEIPT | {"received": 61})
    assert (other.status_code, (other.json or {})["type"]) == (409, "/problems/document-conflict")
    assert differences() == []


def test_two_receipts_of_one_sku_in_one_transaction_each_answer_their_own(service: Service, sql: Sql) -> None:
    """With the same correlation id, too."""
    given(service, CreateBatch("b1", "LAMP", 10), CreateBatch("b2", "LAMP", 10), CreateBatch("b3", "LAMP", 20))
    given(service, *(Allocate(order, "LAMP", 10) for order in ("o1", "o2")))
    asked = [
        Request(CountBatch(ref, 0, 10, "c-1", "lost"), Metadata.first("test", correlation_id="same"))
        for ref in ("b1", "b2")
    ]

    outcomes = service.bus.handle_together(asked)

    moved = [[move["orderid"] for move in service.views.moved(outcome.unwrap())] for outcome in outcomes]
    assert moved == [["o1"], ["o2"]]
    assert sql("SELECT count(DISTINCT transaction_id) FROM event_log WHERE correlation_id = 'same'") == [(1,)]


def test_a_line_that_waited_and_is_served_when_others_lose_their_place_has_not_moved(service: Service) -> None:
    soon, later = date(2031, 1, 1), date(2031, 2, 1)
    given(service, CreateBatch("w1", "WAX", 10, soon))
    given(service, commands.PlaceOrder("o1", (commands.OrderedLine("WAX", 7),), "backorder"))
    given(service, commands.PlaceHold("cart", "WAX", 3, 900))
    given(service, commands.PlaceOrder("o2", (commands.OrderedLine("WAX", 2),), "backorder"))

    outcome = service.bus.outcome(commands.ReceiveBatch("w1", "r1", 1, rest=commands.Rest("w2", later)))

    assert [line.batchref for order in ("o1", "o2") for line in service.views.order(order).lines] == ["w2", "w2"]  # type: ignore[union-attr]  # they are there
    assert [move["orderid"] for move in service.views.moved(outcome.unwrap())] == ["o1"]


def test_a_parcel_a_return_a_release_and_a_cancellation(
    service: Service, client: FlaskClient, differences: Differences
) -> None:
    given(service, CreateBatch("one", "LAMP", 12), CreateBatch("two", "LAMP", 3), Allocate("o/1", "LAMP", 12, "1"))
    given(service, Allocate("other", "LAMP", 3), CreateBatch("three", "LAMP", 9))

    parcel = {"dispatch_id": "d-1", "lines": [{"lineid": "1", "qty": 2, "batchref": "two"}]}
    sent = client.post("/v1/orders/o%2F1/dispatches", json=parcel)
    again = client.post("/v1/orders/o%2F1/dispatches", json=parcel)
    back = client.post(
        "/v1/orders/o%2F1/returns", json={"lineid": "1", "qty": 1, "return_id": "r-1", "condition": "check"}
    )
    released = client.delete("/v1/orders/o%2F1/lines/1")
    for_another = client.post("/v1/orders/o%2F1/cancellation", json={"orderid": "o2", "force": True})
    cancelled = client.post("/v1/orders/o%2F1/cancellation")
    late = client.post("/v1/allocations", json={"orderid": "o/1", "sku": "LAMP", "qty": 1})

    assert (sent.status_code, again.status_code) == (201, 200)
    assert (sent.json or {})["status"] == "open"
    assert (sent.json or {})["lines"] == [
        {
            "lineid": "1",
            "sku": "LAMP",
            "qty": 12,
            "batchref": "one",
            "eta": None,
            "returned": 0,
            "promises": [
                {"batchref": "one", "qty": 10, "eta": None, "dispatched": 0},
                {"batchref": "two", "qty": 0, "eta": None, "dispatched": 2},
            ],
            "waiting": 0,
            "position": None,
            "priority": 5,
            "needed_by": None,
            "at_risk": False,
        }
    ]
    assert (sent.json or {})["moved"] == (again.json or {})["moved"]
    assert [(move["orderid"], move["from"], move["to"]) for move in (sent.json or {})["moved"]] == [
        ("other", "two", "three")
    ]
    assert (back.status_code, (back.json or {})["lines"][0]["returned"]) == (201, 1)
    assert (released.status_code, (released.json or {})["status"]) == (200, "complete")
    assert for_another.status_code == 422
    assert (cancelled.status_code, (cancelled.json or {})["type"]) == (409, "/problems/order-complete")
    assert late.status_code == 201
    assert (client.post("/v1/orders/o%2F1/cancellation").json or {})["status"] == "cancelled"
    refused = client.post("/allocate", json={"orderid": "o/1", "sku": "LAMP", "qty": 1, "lineid": "9"})
    assert (refused.status_code, refused.json) == (409, {"message": "Order o/1 is cancelled"})
    assert (client.get("/v1/orders/o%2F1").json or {})["status"] == "cancelled"
    assert differences() == []


@pytest.mark.parametrize(
    ("path", "body", "status", "problem", "number"),
    [
        (
            "batches/b/counts",
            {"counted": 1, "expected": 9, "count_id": "c", "reason": "lost"},
            409,
            "quantity-stale",
            ("is", 10),
        ),
        ("batches/b/write-offs", {"qty": 1, "document": "w", "reason": "lost"}, 409, "not-enough", ("possible", 0)),
        (
            "batches/nix/counts",
            {"counted": 1, "expected": 9, "count_id": "c", "reason": "lost"},
            404,
            "not-found",
            None,
        ),
        ("orders/nix/cancellation", None, 404, "not-found", None),
        ("orders/o/dispatches", {"dispatch_id": "d", "lines": []}, 422, "invalid-values", None),
        ("batches/b/receipts", {"receipt_id": "r", "received": 1, "damaged": 2}, 422, "impossible-receipt", None),
    ],
)
def test_each_refusal_is_a_problem_with_its_numbers(  # noqa: PLR0917 - a table
    service: Service,
    client: FlaskClient,
    path: str,
    body: Any,
    status: int,
    problem: str,
    number: tuple[str, int] | None,
) -> None:
    given(service, CreateBatch("b", "LAMP", 10), Allocate("o", "LAMP", 1))

    key = {"Idempotency-Key": "k"}
    for _ in range(2):  # what is remembered has its numbers too
        answer = client.post(f"/v1/{path}", json=body, headers=key)
        assert (answer.status_code, (answer.json or {})["type"]) == (status, f"/problems/{problem}")
        if number:
            assert (answer.json or {})[number[0]] == number[1]


def test_the_first_answer_to_a_key_of_the_release_before_is_answered(
    service: Service, client: FlaskClient, sql: Sql
) -> None:
    """It said nothing of what it led to."""
    given(service, CreateBatch("b", "LAMP", 10))
    change = partial(client.patch, "/v1/batches/b", json={"qty": 9}, headers={"If-Match": "*", "Idempotency-Key": "k"})
    assert change().status_code == 200
    sql("""UPDATE inbox SET outcome = '{"result": null}'""")

    assert (change().json or {})["moved"] == []


# --- in pieces -------------------------------------------------------------------


def test_a_line_in_several_pieces_comes_back_as_it_was_left(
    service: Service, differences: Differences, sql: Sql
) -> None:
    given(service, *(CreateBatch(ref, "LAMP", 12) for ref in ("one", "two", "three")), Allocate("o1", "LAMP", 12, "1"))
    for number, ref in enumerate(("three", "two")):
        given(service, Dispatch("o1", f"d-{number}", (ParcelLine("1", 2, ref),)))

    with service.bus.unit_of_work() as uow:
        line = uow.products.line("o1", "1")
    assert [(one.batchref, one.promised, one.dispatched) for one in line.allocations] == [
        ("one", 8, 0),
        ("three", 0, 2),
        ("two", 0, 2),
    ]
    given(service, ReturnLine("o1", "1", 3, "r-1", "good"))  # two from the last, one from that before
    assert sql("SELECT batchref, qty FROM allocations_view ORDER BY position") == [("one", 8), ("three", 1)]
    given(service, ChangeBatchQuantity("one", 0))
    assert sql("SELECT batchref, qty FROM allocations_view ORDER BY position") == [("three", 1), ("two", 8)]
    given(service, ReleaseLine("o1", "1"))
    assert sql("SELECT version IS NULL, others, returned FROM order_lines") == [(False, None, 3)]
    given(service, ReturnLine("o1", "1", 1, "r-2", "good"))
    assert sql("SELECT version IS NULL, others, returned FROM order_lines") == [(True, None, 4)]
    assert sql("SELECT count(*) FROM allocations_view") == [(0,)]
    assert differences() == []


def test_what_expired_in_the_database_s_time_zone_is_passed_over(settings: Settings, sql: Sql) -> None:
    """By the clock of the database, and where a day begins by the setting."""
    zones = {}
    for hours in (12, -12):  # it is never the same day in both
        [(day,)] = sql(f"SELECT CAST(statement_timestamp() AT TIME ZONE 'Etc/GMT{-hours:+}' AS date)")
        zones[f"Etc/GMT{-hours:+}"] = day
    ahead, behind = zones
    last_day = zones[behind]
    assert last_day < zones[ahead]

    for zone, answer in ((behind, "milk"), (ahead, None)):
        service = bootstrap(replace(settings, time_zone=zone))
        try:
            given(service, CreateBatch("milk", "MILK", 10, expires=last_day))
            assert service.bus.handle(Allocate(zone, "MILK", 1)) == answer
            milk = service.views.batch("milk")
            assert milk is not None
            assert milk.state == ("received" if answer else "expired")
        finally:
            service.close()


# --- by many at once ---------------------------------------------------------------


def test_cancel_and_a_new_line_of_another_sku_never_both_win(
    two: list[Service], at_once: AtOnce, sql: Sql, differences: Differences
) -> None:
    given(two[0], CreateBatch("a", "A", 100_000), CreateBatch("b", "B", 100_000))
    won: Counter[str] = Counter()
    for number in range(100):
        orderid = f"o{number}"
        given(two[0], Allocate(orderid, "A", 1))
        cancelled, allocated = at_once(
            partial(two[number % 2].bus.handle, CancelOrder(orderid)),
            partial(two[1 - number % 2].bus.handle, Allocate(orderid, "B", 1)),
        )
        assert isinstance(cancelled, dict), cancelled
        assert allocated == "b" or isinstance(allocated, errors.OrderIsCancelled), allocated
        won["cancel first" if isinstance(allocated, errors.OrderIsCancelled) else "line first"] += 1

    assert sql("SELECT count(*) FROM allocations WHERE qty > 0") == [(0,)]
    assert sql("SELECT count(*) FROM orders WHERE cancelled") == [(100,)]
    assert min(won.values()) > 0, "both orders of events are tried"
    assert differences() == []


def test_a_line_and_a_cancellation_that_saw_the_same_never_both_commit(service: Service, sql: Sql) -> None:
    """Each reads before the other commits; whoever is second is refused its commit, in both orders, and whether the
    order has a row already or not."""

    def cancel(uow: Any, orderid: str) -> None:
        ordering.cancel(orderid, uow.products.lines_of(orderid), uow.products.get)

    def add(uow: Any, orderid: str) -> None:
        allocating.allocate(uow.products.get("B"), OrderLine(orderid, "B", 1))

    given(service, CreateBatch("a", "A", 10), CreateBatch("b", "B", 10))
    for number, (first, second) in enumerate([(cancel, add), (add, cancel)] * 2):
        orderid = f"o{number}"
        given(service, Allocate(orderid, "A", 1))
        if number > 1:
            sql("DELETE FROM orders WHERE orderid = :orderid", orderid=orderid)  # as of the release before
        with pytest.raises(ConcurrencyConflict):
            both(service, partial(first, orderid=orderid), partial(second, orderid=orderid))


def both(service: Service, first: Callable[[Any], None], second: Callable[[Any], None]) -> None:
    with service.bus.unit_of_work() as later:
        second(later)
        with service.bus.unit_of_work() as earlier:
            first(earlier)
            earlier.commit()
        later.commit()


def test_a_thousand_parcels_of_one_sku_by_sixteen_clients_all_leave(
    two: list[Service], sql: Sql, differences: Differences
) -> None:
    orders, clients = 320, 16
    given(two[0], CreateBatch("b", "HOT", 10_000))
    two[0].bus.handle_together([Request(Allocate(f"o{number}", "HOT", 2)) for number in range(orders)])
    services = cycle(two)

    def leave(number: int) -> object:
        return next(services).bus.handle(Dispatch(f"o{number}", "d-1", (ParcelLine("HOT", 2),)))

    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(leave, range(orders)))

    assert all(answers), "none was given up"
    assert sql("SELECT dispatched_quantity, allocated_quantity FROM batches") == [(2 * orders, 2 * orders)]
    assert differences() == []


def test_dispatch_count_quantity_and_cancel_lose_no_update(
    two: list[Service], at_once: AtOnce, differences: Differences
) -> None:
    given(two[0], CreateBatch("spare", "LAMP", 1_000, eta=date(2031, 1, 1)))
    for number in range(10):
        ref, orders = f"b{number}", [f"o{number}-{line}" for line in range(3)]
        given(two[0], CreateBatch(ref, "LAMP", 30), *(Allocate(order, "LAMP", 10) for order in orders))
        asked: list[commands.Command] = [
            Dispatch(orders[0], "d-1", (ParcelLine("LAMP", 4),)),
            CountBatch(ref, 25, 30, "c-1", "lost"),
            ChangeBatchQuantity(ref, 28),
            CancelOrder(orders[1]),
            ReleaseLine(orders[2], "LAMP"),
            Quarantine(ref, 2, "suspect", "q-1"),
        ]

        answers = at_once(*(partial(two[place % 2].bus.handle, command) for place, command in enumerate(asked)))

        for answer in answers:
            assert isinstance(answer, dict | errors.DomainError), answer
    assert differences() == []


def test_a_cut_of_many_lines_loses_to_no_till(two: list[Service], sql: Sql, differences: Differences) -> None:
    """While other lines of the same orders are added: what moves touches no order."""
    lines = 2_000
    given(two[0], CreateBatch("b1", "LAMP", lines), CreateBatch("b2", "LAMP", lines), CreateBatch("s", "SOFA", 10_000))
    for start in range(0, lines, 500):
        two[0].bus.handle_together([Request(Allocate(f"o{start + n}", "LAMP", 1)) for n in range(500)])
    attempts = []
    committed = two[0].bus.unit_of_work

    def counted() -> Any:
        attempts.append(1)
        return committed()

    two[0].bus.unit_of_work = counted
    with ThreadPoolExecutor(4) as pool:
        tills = [
            pool.submit(
                lambda first: [two[1].bus.handle(Allocate(f"o{n}", "SOFA", 1)) for n in range(first, first + 40)],
                place * 400,
            )
            for place in range(3)
        ]
        two[0].bus.handle(ChangeBatchQuantity("b1", 0))
        for till in tills:
            assert till.result() == ["s"] * 40

    assert len(attempts) == 1, "the cut commits at its first try"
    assert sql("SELECT count(*) FROM allocations WHERE batchref = 'b2'") == [(lines,)]
    assert differences() == []


@pytest.mark.slow
def test_many_lines_move_over_http(
    settings: Settings, service: Service, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    lines = 10_000
    given(service, CreateBatch("b1", "LAMP", lines), CreateBatch("b2", "LAMP", lines))
    for start in range(0, lines, 1_000):
        service.bus.handle_together([Request(Allocate(f"o{start + n}", "LAMP", 1)) for n in range(1_000)])

    api = bootstrap(settings, callers_wait=True)
    client = create_app(api, UNRESTRICTED).test_client()
    answer = client.post("/v1/batches/b1/quarantine", json={"qty": lines, "reason": "suspect", "document": "all of it"})

    api.close()
    assert answer.status_code == 201, [getattr(record, "error", "") for record in caplog.records]
    moved = (answer.json or {})["moved"]
    assert len(moved) == lines
    assert {move["to"] for move in moved} == {"b2"}
    with engine.connect() as connection:
        assert (
            connection.execute(text("SELECT quarantined_quantity FROM batches WHERE reference = 'b1'")).scalar()
            == lines
        )
