"""Whole orders and those who wait, on a real database: over HTTP, by many at once, and against the oracle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import date, timedelta
from random import Random
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from tests.anything import Later
from tests.dry_runs import request_for
from tests.integration.conftest import Sql
from tests.oracle import Oracle, Refused
from tests.unit.test_against_the_oracle import Asker, compared
from tests.unit.test_placing import order
from werkzeug.test import TestResponse

from allocation.adapters.wire_names import problem_name
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.database import tables
from allocation.domain import errors
from allocation.domain.commands import (
    Allocate,
    ApplyDueDates,
    CancelOrder,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    OrderedLine,
    PlaceOrder,
    ReleaseLine,
    ReportShortages,
)
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from embedded.waiting import wait_for
from messaging.sql import tables as messaging_tables

Differences = Callable[[], list[str]]
SEQUENCES = int(os.environ.get("ORACLE_SEQUENCES", "8"))


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


def given_(service: Service, *asked: Command) -> None:
    for command in asked:
        service.bus.handle(command)


def body(orderid: str, mode: str, *lines: tuple[str, int, str], **terms: Any) -> dict[str, Any]:
    return {
        "orderid": orderid,
        "mode": mode,
        "lines": [{"sku": sku, "qty": qty, "lineid": lineid} for sku, qty, lineid in lines],
        **terms,
    }


# --- over HTTP -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "because"),
    [
        ({}, "it goes whole to one batch, and the largest has 3"),
        ({"may_split": True, "needed_by": "2030-01-01"}, "it is needed by 2030-01-01"),
        (
            {"locations": ["a", "b"]},
            "it goes whole to one batch, and the largest has 3, and it may lie only in 'a' or 'b'",
        ),
    ],
)
def test_an_order_that_its_terms_stand_in_the_way_of_is_answered_with_them(
    service: Service, client: FlaskClient, terms: dict[str, object], because: str
) -> None:
    given_(service, CreateBatch("b1", "LAMP", 3, date(2031, 1, 1)), CreateBatch("b2", "LAMP", 2, date(2031, 1, 2)))

    answer = client.post("/v1/orders", json=body("17", "all_or_nothing", ("LAMP", 4, "1"), **terms))

    assert (answer.status_code, (answer.json or {})["detail"].partition(" = ")[2]) == (
        409,
        f"5 available, but {because}",
    )


def test_an_order_of_3_and_3_lamps_with_5_left_says_the_arithmetic_of_each_short_line(
    service: Service, client: FlaskClient, differences: Differences
) -> None:
    given_(service, CreateBatch("b", "LAMP", 7), Allocate("other", "LAMP", 2))

    answer = client.post("/v1/orders", json=body("17", "all_or_nothing", ("LAMP", 3, "1"), ("LAMP", 3, "2")))

    assert (answer.status_code, (answer.json or {})["type"]) == (409, "/problems/out-of-stock")
    assert (answer.json or {})["detail"] == (
        "line 2 asked for 3; purchased 7 − allocated 2 − held 0 − dispatched 0 − quarantined 0 = 5 available "
        "− 3 for lines before it = 2"
    )
    assert (answer.json or {})["shortages"] == [
        {"orderid": "17", "lineid": "2", "sku": "LAMP", "requested": 3, "taken_by_this_order": 3}
        | {"purchased": 7, "allocated": 2, "held": 0, "dispatched": 0, "quarantined": 0}
        | {"available": 5, "largest": 5, "next_eta": None}
    ]
    assert client.get("/v1/orders/17").status_code == 404
    assert differences() == []


def test_with_a_key_the_first_answer_stands_and_without_one_it_is_as_it_is_now(
    service: Service, client: FlaskClient
) -> None:
    given_(service, CreateBatch("b", "LAMP", 5))
    asked = body("17", "backorder", ("LAMP", 3, "1"), ("LAMP", 3, "2"), priority=7)

    first = client.post("/v1/orders", json=asked, headers={"Idempotency-Key": "k"})
    given_(service, CreateBatch("c", "LAMP", 9))
    replayed = client.post("/v1/orders", json=asked, headers={"Idempotency-Key": "k"})
    again = client.post("/v1/orders", json=asked)

    assert (first.status_code, replayed.status_code, again.status_code) == (201, 200, 200)
    assert first.json
    assert replayed.json
    assert again.json
    assert (first.json["outcome"], first.json["status"]) == ("partly_allocated", "open")
    assert first.json["lines"][1] | {"position": 1} == first.json["lines"][1], "the first of those who wait"
    assert replayed.json["outcome"] == "partly_allocated"
    assert replayed.json["lines"][1]["waiting"] == 3
    assert again.json["outcome"] == "allocated"
    assert again.json["lines"][1]["promises"] == [{"batchref": "c", "qty": 3, "eta": None, "dispatched": 0}]
    now = client.get("/v1/orders/17").json or {}
    assert now | {"outcome": "allocated"} == again.json, "what is answered is what is got"


def test_lines_without_a_lineid_are_known_by_their_skus(client: FlaskClient, service: Service) -> None:
    given_(service, CreateBatch("a", "A", 5), CreateBatch("b", "B", 5))
    two = {"orderid": "17", "mode": "partial", "lines": [{"sku": "A", "qty": 1}, {"sku": "B", "qty": 1}]}
    same = {
        "orderid": "18",
        "mode": "partial",
        "lines": [{"sku": "A", "qty": 4}, {"sku": "B", "qty": 1, "lineid": "A"}],
    }

    assert client.post("/v1/orders", json=two).status_code == 201
    assert client.post("/v1/orders", json=same).status_code == 422


def test_an_order_of_a_name_from_before_names_had_one_form_is_known(client: FlaskClient, service: Service) -> None:
    given_(service, CreateBatch("a", "A", 9), PlaceOrder("o\u0308", (OrderedLine("A", 3, "e\u0301"),), "partial"))

    answer = client.post("/v1/orders", json=body("o\u0308", "partial", ("A", 3, "e\u0301")))

    assert answer.status_code == 200
    assert [line["lineid"] for line in (answer.json or {})["lines"]] == ["e\u0301"]


def test_a_refused_order_that_is_replayed_says_so(client: FlaskClient, service: Service) -> None:
    given_(service, CreateBatch("b", "LAMP", 1))
    first, again = (
        client.post("/v1/orders", json=body("17", "all_or_nothing", ("LAMP", 2, "1")), headers={"Idempotency-Key": "k"})
        for _ in range(2)
    )

    assert (first.status_code, again.status_code) == (409, 409)
    assert (again.json or {})["detail"].startswith((first.json or {})["detail"] + " by now; this is the first answer")


def test_a_200_line_order_is_one_transaction_and_201_lines_are_422(
    service: Service, client: FlaskClient, sql: Sql
) -> None:
    given_(service, *(CreateBatch(f"b{number}", f"SKU-{number}", 5) for number in range(10)))
    lines = [(f"SKU-{number % 10}", 1, f"{number}") for number in range(201)]

    assert client.post("/v1/orders", json=body("17", "backorder", *lines)).status_code == 422
    assert client.post("/v1/orders", json=body("17", "backorder", *lines[:200])).status_code == 201
    [(transactions, events)] = sql(
        "SELECT count(DISTINCT transaction_id), count(*) FROM event_log WHERE data ->> 'orderid' = '17'"
    )
    assert (transactions, events) == (1, 200)


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"mode": "backorder", "may_split": True}, "#/may_split", "say mode partial"),
        ({"mode": None}, "#/mode", "not null"),
        (
            {"lines": [{"sku": "LAMP", "qty": 1}, {"sku": "LAMP", "qty": 2}]},
            "#/lines",
            "give each line a lineid of its own",
        ),
        ({"lines": []}, "#/lines", "at least 1"),
        ({"priorty": 5}, "#/priorty", "did you mean priority?"),
        ({"lines": [{"sku": "LAMP", "qty": 1, "cart": "9"}]}, "#/lines/0/cart", "is no known key"),
        ({"locations": ["hamburg", "hamburg"]}, "#/locations", "'hamburg' is there twice"),
        ({"locations": []}, "#/locations", "at least 1"),
        ({"needed_by": "0001-01-01"}, "#/needed_by", "from 1980-01-01"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_where_it_makes_none(
    client: FlaskClient, change: dict[str, Any], pointer: str, says: str
) -> None:
    answer = client.post("/v1/orders", json=body("17", "partial", ("LAMP", 1, "1")) | change)

    assert answer.status_code == 422
    [error] = (answer.json or {})["errors"]
    assert (error["pointer"], says in error["detail"]) == (pointer, True), error


def test_the_queue_is_listed_in_its_turn_by_pages(service: Service, client: FlaskClient) -> None:
    given_(service, CreateBatch("b", "LAMP", 3), CreateBatch("s", "SOFA", 0))
    given_(service, *(order(f"o{number}", "backorder", ("LAMP", 8)) for number in range(4)))
    given_(service, order("first", "backorder", ("LAMP", 9), priority=9), order("other", "backorder", ("SOFA", 1)))

    found: list[Any] = []
    following = "/v1/backorders?limit=2"
    while following:
        page = client.get(following).json or {}
        found += page["items"]
        following = page["next"] and f"/v1/backorders?limit=2&cursor={page['next']}"

    about = [(one["sku"], one["orderid"], one["position"], one["needs"], one["largest"]) for one in found]
    assert about == [
        ("LAMP", "first", 1, 9, 3),
        *(("LAMP", f"o{number}", number + 2, 8, 3) for number in range(4)),
        ("SOFA", "other", 1, 1, 0),
    ]
    of_lamps = (client.get("/v1/backorders?sku=LAMP").json or {})["items"]
    assert of_lamps == found[:5]
    assert all(one["since"] for one in found)


def test_anna_8_before_ben_5_when_10_arrive_and_ben_is_told_position_1(client: FlaskClient, service: Service) -> None:
    given_(service, CreateBatch("none", "LAMP", 0))
    anna = client.post("/v1/orders", json=body("anna", "backorder", ("LAMP", 8, "1")))
    ben = client.post("/v1/orders", json=body("ben", "backorder", ("LAMP", 5, "1")))
    assert [(order.json or {})["lines"][0]["position"] for order in (anna, ben)] == [1, 2]

    client.post("/v1/batches", json={"ref": "b", "sku": "LAMP", "qty": 10})

    [line] = (client.get("/v1/orders/ben").json or {})["lines"]
    assert (line["waiting"], line["position"]) == (5, 1)
    [line] = (client.get("/v1/orders/anna").json or {})["lines"]
    assert (line["waiting"], line["position"], line["batchref"]) == (0, None, "b")


def test_orders_are_listed_by_what_is_asked_for(service: Service, client: FlaskClient) -> None:
    given_(service, CreateBatch("b", "LAMP", 3), CreateBatch("s", "SOFA", 5))
    given_(service, order("a", "backorder", ("LAMP", 8)), order("b", "backorder", ("LAMP", 3), ("SOFA", 1)))
    given_(service, Allocate("c", "SOFA", 1), CancelOrder("c"))

    def listed(query: str) -> list[str]:
        return [one["orderid"] for one in (client.get(f"/v1/orders{query}").json or {})["items"]]

    assert listed("") == ["a", "b", "c"]
    assert listed("?state=cancelled") == ["c"]
    assert listed("?sku=LAMP") == ["a", "b"]
    assert listed("?since=2026-01-01T00:00:00Z") == ["a", "b", "c"]
    assert listed("?since=2199-01-01T00:00:00Z") == []
    first = client.get("/v1/orders?limit=2").json or {}
    assert listed(f"?limit=2&cursor={first['next']}") == ["c"]
    [summary] = (client.get("/v1/orders?sku=SOFA&state=open").json or {})["items"]
    assert summary | {"placed": None} == {
        "orderid": "b",
        "status": "open",
        "placed": None,
        "lines": 2,
        "promised": 4,
        "waiting": 0,
        "dispatched": 0,
        "skus": ["LAMP", "SOFA"],
    }
    assert client.get("/v1/orders?state=lost").status_code == 422


def test_explain_says_what_would_be_promised_and_why_not_another(service: Service, client: FlaskClient) -> None:
    given_(
        service,
        CreateBatch("few", "LAMP", 3),
        CreateBatch("far", "LAMP", 9, location="berlin"),
        CreateBatch("late", "LAMP", 9, date(2031, 2, 1), location="hamburg"),
        CreateBatch("good", "LAMP", 9, date(2031, 1, 1), location="hamburg"),
    )

    answer = client.get("/v1/products/LAMP/explain?qty=8&needed_by=2031-01-15&locations=hamburg&locations=bremen")

    assert answer.json == {
        "verdict": "good",
        "candidates": [
            {"ref": "good", "available": 9, "verdict": "taken", "why": "has room for all 8"},
            {"ref": "late", "available": 9, "verdict": "passed over", "why": "comes 2031-02-01, needed by 2031-01-15"},
            {"ref": "few", "available": 3, "verdict": "passed over", "why": "lies at no location that was named"},
            {"ref": "far", "available": 9, "verdict": "passed over", "why": "lies in berlin"},
        ],
    }
    split = client.get("/v1/products/LAMP/explain?qty=11&may_split=true").json or {}
    assert split["verdict"] == ["few", "far"]
    assert (client.get("/v1/products/LAMP/explain?qty=100").json or {})["verdict"] is None
    assert client.get("/v1/products/LMAP/explain?qty=1").status_code == 404
    assert client.get("/v1/products/LAMP/explain").status_code == 422
    assert client.get("/v1/products/LAMP/explain?qty=1&qty=2").status_code == 422
    assert client.get("/v1/products/LAMP/explain?qty=1&locations=x&locations=x").status_code == 422


def test_a_line_that_lost_its_place_to_a_cut_and_waits_is_among_those_that_moved(
    service: Service, client: FlaskClient
) -> None:
    given_(service, CreateBatch("b", "LAMP", 9), order("17", "backorder", ("LAMP", 8)))

    answer = client.patch("/v1/batches/b", json={"qty": 5}, headers={"If-Match": "*"})

    assert (answer.json or {})["moved"] == [
        {"orderid": "17", "lineid": "LAMP", "sku": "LAMP", "qty": 8, "from": "b", "to": None, "outcome": "waiting"}
    ]
    created = client.post("/v1/batches", json={"ref": "c", "sku": "LAMP", "qty": 10, "location": "hamburg"})
    assert (created.json or {})["allocated"] == 8, "as it is after those who wait were served"


def test_the_books_route_knows_nothing_of_locations(client: FlaskClient, service: Service) -> None:
    answer = client.post("/add_batch", json={"ref": "b", "sku": "LAMP", "qty": 1, "location": 5, "expires": "never"})

    assert answer.status_code == 201
    batch = service.views.batch("b")
    assert batch
    assert (batch.location, batch.expires) == ("", None)


def test_a_line_that_comes_back_under_another_sku_is_right(service: Service, differences: Differences) -> None:
    given_(service, CreateBatch("a", "A", 5), CreateBatch("b", "B", 5), order("17", "partial", ("A", 1, "1")))
    given_(service, ReleaseLine("17", "1"), order("17", "partial", ("B", 7, "1")))

    assert differences() == []


# --- by many at once --------------------------------------------------------------


def test_orders_over_the_same_skus_in_any_order_never_deadlock_nor_oversell(
    settings: Settings, differences: Differences, sql: Sql
) -> None:
    services = [bootstrap(settings, connections=10) for _ in range(2)]
    skus = [f"SKU-{number}" for number in range(5)]
    given_(services[0], *(CreateBatch(f"b-{sku}", sku, 60) for sku in skus))

    def place(number: int) -> str:
        random = Random(number)
        lines = [(sku, random.randint(1, 3)) for sku in random.sample(skus, 3)]
        mode = random.choice(["all_or_nothing", "partial", "backorder"])
        answer = services[number % 2].bus.handle(order(f"o{number}", mode, *lines))  # type: ignore[arg-type]
        return str(answer["outcome"])

    try:
        with ThreadPoolExecutor(16) as pool:
            outcomes = list(pool.map(place, range(120)))
            list(pool.map(lambda sku: services[0].bus.handle(ChangeBatchQuantity(f"b-{sku}", 30)), skus))
            list(pool.map(lambda sku: services[1].bus.handle(ChangeBatchQuantity(f"b-{sku}", 50)), skus))
    finally:
        for service in services:
            service.close()

    assert len(outcomes) == 120
    assert differences() == []
    assert sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


def test_filling_many_lines_is_one_transaction_and_ends(
    settings: Settings, engine: Engine, sql: Sql, differences: Differences
) -> None:
    """A command of which nobody can say beforehand that it moves many lines."""
    with_lane = bootstrap(settings, connections=4, callers_wait=True)
    try:
        with_lane.bus.handle(CreateBatch("none", "LAMP", 0))
        lines = 2_000
        for number in range(0, lines, 200):
            part = [("LAMP", 1 + place % 3, f"{place}") for place in range(number, number + 200)]
            with_lane.bus.handle(order(f"o{number}", "backorder", *part))
        client = create_app(with_lane, UNRESTRICTED).test_client()

        batch = {"ref": "b", "sku": "LAMP", "qty": 10_000}
        answers: list[TestResponse] = []

        def is_there() -> bool:
            """A machine that is busy answers 503, and is asked again."""
            answers.append(client.post("/v1/batches", json=batch))
            return answers[-1].status_code in (200, 201)

        assert wait_for(is_there, within=60), answers[-1].text
        answer = answers[-1]
        assert (answer.json or {})["allocated"] == sum(1 + place % 3 for place in range(lines))
        [(transactions,)] = sql(
            "SELECT count(DISTINCT transaction_id) FROM event_log WHERE type = 'allocated.v1' AND stream = 'LAMP'"
        )
        assert transactions == 1
        assert sql("SELECT count(*) FROM backorders") == [(0,)]
    finally:
        with_lane.close()
    assert differences() == []


# --- against the oracle -----------------------------------------------------------


def emptied(engine: Engine) -> None:
    names = [table.name for table in (*tables.metadata.sorted_tables, *messaging_tables.metadata.sorted_tables)]
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(names)}"))


def test_random_sequences_over_http_end_as_the_oracle_says(
    service: Service, engine: Engine, client: FlaskClient, differences: Differences
) -> None:
    @given(st.data())
    @settings(max_examples=SEQUENCES, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck))
    def agree(data: st.DataObject) -> None:
        emptied(engine)
        with engine.connect() as connection:
            now = connection.execute(text("SELECT statement_timestamp()")).scalar_one()
        asker = Asker(data, Oracle(now))
        for _ in range(30):
            asker.oracle.now += timedelta(milliseconds=1)
            command, before = asker.next(), deepcopy(asker.oracle)
            if isinstance(command, Later):
                if command.seconds < 86_400:  # by the clock it is another day
                    asker.oracle.later(command)
                    brought_closer(engine, command.seconds)
                    asker.oracle.now -= timedelta(seconds=command.seconds)
                    for key in asker.oracle.holds:
                        asker.oracle.holds[key] -= timedelta(seconds=command.seconds)
                continue
            if isinstance(command, ReportShortages):  # which has no route
                continue
            if isinstance(command, ApplyDueDates):
                asker.oracle.ask(command)
                service.bus.handle(command)
                compared(service.bus.unit_of_work, asker.oracle)
                continue
            try:
                asker.oracle.ask(command)
                expected = None
            except Refused as refused:
                asker.oracle = before
                expected = problem_name(getattr(errors, str(refused)))
            answer = request_for(client, command)
            found = None if answer.status_code < 400 else kind_of(answer)
            assert found in {expected, "out-of-stock"}, (command, answer.text)
            compared(service.bus.unit_of_work, asker.oracle)
        assert differences() == []

    agree()


def brought_closer(engine: Engine, seconds: int) -> None:
    """Holds run out so much earlier, by the log too: as if the time had passed."""
    earlier = "- make_interval(secs => :secs)"
    until = f"to_jsonb(CAST(data ->> 'until' AS timestamptz) {earlier})"
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE holds SET until = until {earlier}"), {"secs": seconds})
        connection.execute(
            text(f"UPDATE event_log SET data = jsonb_set(data, '{{until}}', {until}) WHERE data ? 'until'"),
            {"secs": seconds},
        )


def kind_of(answer: TestResponse) -> str:
    kind: str = (answer.json or {})["type"]
    return kind.removeprefix("/problems/")


# --- killed -----------------------------------------------------------------------

KILLS = int(os.environ.get("ORDER_KILLS", "5"))
VICTIM = """
import os, sys
from dataclasses import replace
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.commands import OrderedLine, PlaceOrder

database_url, redis_url = sys.argv[1:]
for number in sys.stdin:
    pid = os.fork()
    if not pid:
        service = bootstrap(replace(Settings(), database_url=database_url, redis_url=redis_url), connections=1)
        for order in range(1_000):
            lines = tuple(OrderedLine(f"SKU-{place}", 1) for place in range(20))
            service.bus.handle(PlaceOrder(f"o{number.strip()}-{order}", lines, "backorder"))
            if not order:
                print(os.getpid(), flush=True)
    os.waitpid(pid, 0)
"""


def test_of_an_order_whose_process_is_killed_there_is_all_or_nothing(
    service: Service, settings: Settings, sql: Sql, differences: Differences
) -> None:
    given_(service, *(CreateBatch(f"b{place}", f"SKU-{place}", 40 + place) for place in range(20)))
    command = [sys.executable, "-c", VICTIM, settings.database_url, settings.redis_url]
    random = Random(20)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdin
        assert victim.stdout
        for number in range(KILLS):
            print(number, file=victim.stdin, flush=True)
            pid = int(victim.stdout.readline())
            time.sleep(random.uniform(0.0, 0.1))  # wherever it is then
            os.kill(pid, signal.SIGKILL)
        victim.stdin.close()

    at_work = "SELECT FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
    assert wait_for(lambda: not sql(at_work), within=10)
    orders = sql("SELECT count(*), count(DISTINCT sku) FROM order_lines GROUP BY orderid")
    assert set(orders) == {(20, 20)}
    assert len(orders) >= KILLS
    [(transactions,)] = sql(
        "SELECT count(*) FROM (SELECT FROM event_log WHERE data ? 'orderid' GROUP BY data ->> 'orderid' "
        "HAVING count(DISTINCT transaction_id) > 1) AS divided"
    )
    assert transactions == 0
    assert differences() == []
