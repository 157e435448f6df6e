"""What can be had of a SKU today and later, of one and of many, and when a line could have so much: over HTTP and at
the command line, by the rule that then decides."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from tests.integration.conftest import Sql
from tests.integration.plans import explained

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.commands import (
    Allocate,
    Command,
    CreateBatch,
    Dispatch,
    OrderedLine,
    ParcelLine,
    PlaceOrder,
    Quarantine,
)
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED

LONG_AGO, MARCH, APRIL = date(2020, 1, 1), date(2199, 3, 14), date(2199, 4, 1)


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


def given(service: Service, *asked: Command) -> None:
    for command in asked:
        service.bus.handle(command)


def ask(client: FlaskClient, sku: str, query: str = "") -> Any:
    answer = client.get(f"/v1/products/{sku}/availability{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def earliest(client: FlaskClient, query: str) -> Any:
    found = ask(client, "LAMP", query)["earliest"]
    return found and (found["date"], found["batchref"])


def today() -> str:
    """By the server's clock, which is ours."""
    return datetime.now(UTC).date().isoformat()


def shelf_and_ships(service: Service) -> None:
    """4 of 12 on the shelf, 5 overdue, 15 of 20 in March, 7 in April; 9 that have expired."""
    given(
        service,
        CreateBatch("shelf", "LAMP", 12),
        CreateBatch("expired", "LAMP", 9, expires=LONG_AGO),
        Quarantine("shelf", 1, "damaged", "q-1"),
        Allocate("anna", "LAMP", 4),
        Allocate("ben", "LAMP", 3),
        Dispatch("anna", "parcel", (ParcelLine("LAMP", 3),)),
        CreateBatch("march", "LAMP", 20, MARCH),
        Allocate("cleo", "LAMP", 5),
        CreateBatch("overdue", "LAMP", 5, LONG_AGO),
        CreateBatch("april", "LAMP", 7, APRIL),
        PlaceOrder("dora", (OrderedLine("LAMP", 30), OrderedLine("LAMP", 40, "2")), "backorder"),
    )


# --- the numbers -----------------------------------------------------------------


def test_what_can_be_had_of_a_sku_is_on_hand_and_what_comes_day_by_day(service: Service, client: FlaskClient) -> None:
    shelf_and_ships(service)

    found = ask(client, "LAMP")

    moment = datetime.fromisoformat(found.pop("as_of"))
    assert abs(moment - datetime.now(UTC)) < timedelta(minutes=1)
    product = service.views.product("LAMP")
    assert product
    assert found == {
        "sku": "LAMP",
        "on_hand": {"purchased": 9, "available": 4, "allocated": 4, "held": 0, "quarantined": 1, "dispatched": 3},
        "by_date": [
            {"date": today(), "arrives": 5, "available": 9, "cumulative": 9},
            {"date": "2199-03-14", "arrives": 20, "available": 15, "cumulative": 24},
            {"date": "2199-04-01", "arrives": 7, "available": 7, "cumulative": 31},
        ],
        "overdue": [{"ref": "overdue", "eta": "2020-01-01", "available": 5}],
        "waiting": {"lines": 2, "qty": 70},
        "version": 12,
        "earliest": None,
    }
    here = found["on_hand"]
    assert here["purchased"] == here["available"] + here["allocated"] + here["held"] + here["quarantined"]
    assert (product.on_hand, product.available, product.allocated) == (9, 4, 4), "as the product has it"


def test_a_day_on_which_all_is_promised_is_a_day_all_the_same(service: Service, client: FlaskClient) -> None:
    given(service, CreateBatch("march", "LAMP", 5, MARCH), Allocate("anna", "LAMP", 5))

    today_, march = ask(client, "LAMP")["by_date"]

    assert today_ | {"date": ""} == {"date": "", "arrives": 0, "available": 0, "cumulative": 0}
    assert march == {"date": "2199-03-14", "arrives": 5, "available": 0, "cumulative": 0}


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_today_is_the_day_of_the_setting_by_the_database_s_clock(settings: Settings, sql: Sql, zone: str) -> None:
    """These two never have the same day, so that neither is right by luck."""
    service = bootstrap(replace(settings, time_zone=zone))
    [(moment,)] = sql("SELECT statement_timestamp()")
    there = moment.astimezone(ZoneInfo(zone)).date()
    service.bus.handle(CreateBatch("yesterday", "LAMP", 1, there - timedelta(days=1)))
    service.bus.handle(CreateBatch("today", "LAMP", 1, there))

    [found] = service.views.availability(["LAMP"], 2)
    service.close()

    assert found
    assert found.by_date[0].date == there
    assert [one.ref for one in found.overdue] == ["yesterday"]
    assert [day.cumulative for day in found.by_date] == [2]


# --- when a line could have it ---------------------------------------------------


def test_when_can_i_have_8(service: Service, client: FlaskClient) -> None:
    shelf_and_ships(service)

    assert earliest(client, "?qty=4") == (today(), "shelf")
    assert earliest(client, "?qty=5") == (today(), "overdue"), "counts as if it came today"
    assert earliest(client, "?qty=8") == ("2199-03-14", "march")
    assert earliest(client, "?qty=8&needed_by=2199-03-13") is None
    assert earliest(client, "?qty=16") is None
    assert earliest(client, "?qty=8&may_split=true&needed_by=2199-03-13") == (today(), ["shelf", "overdue"])
    assert earliest(client, "?qty=31&may_split=true")[0] == "2199-04-01", "when the last piece is there"
    assert earliest(client, "?qty=32&may_split=true") is None


def test_a_batch_that_has_all_of_it_is_preferred_to_pieces_and_a_location_to_a_day(
    service: Service, client: FlaskClient
) -> None:
    given(
        service,
        CreateBatch("here", "LAMP", 5, location="berlin"),
        CreateBatch("march", "LAMP", 5, MARCH, location="berlin"),
        CreateBatch("april", "LAMP", 8, APRIL, location="hamburg"),
    )

    assert earliest(client, "?qty=8&may_split=true") == ("2199-04-01", "april")
    assert earliest(client, "?qty=9&may_split=true") == ("2199-03-14", ["here", "march"])
    assert earliest(client, "?qty=5&locations=hamburg&locations=berlin") == ("2199-04-01", "april")
    assert earliest(client, "?qty=5&locations=bremen") is None


@pytest.mark.parametrize("qty", range(1, 23, 3))
def test_what_is_answered_is_what_allocate_then_does(service: Service, client: FlaskClient, qty: int) -> None:
    shelf_and_ships(service)

    found = earliest(client, f"?qty={qty}")

    assert service.bus.handle(Allocate("emil", "LAMP", qty)) == (found and found[1])


# --- of many at once -------------------------------------------------------------


def test_many_are_answered_in_the_order_asked_and_unknown_ones_beside(service: Service, client: FlaskClient) -> None:
    given(service, CreateBatch("l", "LAMP", 3), CreateBatch("s", "SOFA", 8), CreateBatch("e\u0301", "e\u0301", 1))

    found = client.get("/v1/availability?sku=SOFA&sku=LAMPE&sku=LAMP&sku=e\u0301&qty=5").json or {}

    assert [one["sku"] for one in found["items"]] == ["SOFA", "LAMP", "e\u0301"], "as it is stored"
    assert found["unknown"] == ["LAMPE"]
    assert [one["earliest"] and one["earliest"]["batchref"] for one in found["items"]] == ["s", None, None]
    assert len({one["as_of"] for one in found["items"]}) == 1
    assert found["items"][0]["by_date"] == ask(client, "SOFA")["by_date"]


def test_two_hundred_are_one_statement(service: Service, client: FlaskClient) -> None:
    given(service, *(CreateBatch(f"b-{number}", f"SKU-{number}", 5) for number in range(200)))

    def statements(many: int) -> int:
        query = "&".join(f"sku=SKU-{number}" for number in range(many))
        with explained() as plans:
            answer = client.get(f"/v1/availability?{query}&qty=6&may_split=true").json or {}
        assert len(answer["items"]) == many
        return len(plans)

    assert (statements(1), statements(200)) == (1, 1)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/products/LAMP/availability?qty=0", "qty: input should be greater than or equal to 1, not 0"),
        ("/v1/products/LAMP/availability?need_by=2031-01-01", "did you mean needed_by?"),
        ("/v1/products/LAMP/availability?locations=a&qty=1&locations=a", "must have each once, and 'a' is there twice"),
        ("/v1/availability", "sku: is missing"),
        ("/v1/availability?sku=LAMP&sku=SOFA&sku=LAMP", "sku: must have each once, and 'LAMP' is there twice"),
        ("/v1/availability?sku=e\u0301&sku=\u00e9", "is there twice"),
        (f"/v1/availability?{'&'.join(f'sku={n}' for n in range(201))}", "at most 200 items, not 201"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(client: FlaskClient, path: str, says: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, says in (answer.json or {})["detail"]) == (422, True), answer.text


def test_a_sku_that_was_never_purchased_is_not_found(client: FlaskClient) -> None:
    answer = client.get("/v1/products/LAMP/availability?qty=8")

    assert (answer.status_code, (answer.json or {})["detail"]) == (404, "no batch of LAMP was ever added")


# --- at the command line ---------------------------------------------------------


def type_(settings: Settings, *arguments: str) -> Result:
    return CliRunner(env=settings.as_environment({}) | {"LOG_LEVEL": "ERROR"}).invoke(
        main, ["availability", *arguments]
    )


def test_it_is_said_in_words_and_by_date(service: Service, settings: Settings) -> None:
    shelf_and_ships(service)

    lines = type_(settings, "LAMP", "8").stdout.splitlines()

    assert [line.split() for line in lines[-4:]] == [
        ["date", "arrives", "available", "in", "all"],
        ["today", "5", "9", "9"],
        ["2199-03-14", "20", "15", "24"],
        ["2199-04-01", "7", "7", "31"],
    ]
    assert lines[:-4] == [
        "9 today, 24 from 2199-03-14, 31 from 2199-04-01.",
        "A line of 8 could have it on 2199-03-14, from batch march.",
        "In the warehouse: 9, of which 4 available, 4 allocated, 0 held, 1 in quarantine; 3 dispatched.",
        "Batch overdue is overdue since 2020-01-01: its 5 count as of today.",
        "2 lines wait for 70, which none of this fits.",
    ]
    assert "No batch fits a line of 99.\n" in type_(settings, "LAMP", "99").stdout
    split = type_(settings, "LAMP", "8", "--may-split", "--needed-by", "2199-01-01").stdout
    assert "A line of 8 could have it today, from batch shelf and batch overdue.\n" in split


def test_it_is_json_as_the_api_has_it(service: Service, settings: Settings, client: FlaskClient) -> None:
    shelf_and_ships(service)

    found = json.loads(type_(settings, "LAMP", "8", "--json").stdout)

    assert found | {"as_of": ""} == ask(client, "LAMP", "?qty=8") | {"as_of": ""}


def test_what_can_t_be_answered_names_value_and_rule(service: Service, settings: Settings) -> None:
    given(service, CreateBatch("b", "LAMP", 1))

    unknown, too_few, alone = (type_(settings, *said) for said in (["LAMPS"], ["LAMP", "0"], ["LAMP", "--may-split"]))

    assert (unknown.exit_code, unknown.stderr) == (1, "Error: Invalid sku LAMPS\n")
    assert (too_few.exit_code, "greater than or equal to 1, not 0" in too_few.stderr) == (2, True)
    assert (alone.exit_code, "--may-split and --location are about a QTY" in alone.stderr) == (2, True)
