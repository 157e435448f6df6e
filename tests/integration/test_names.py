"""Names that were stored in another form than that in which they are kept now: found as they are sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import Engine

from allocation.bootstrap import Service
from allocation.check import check_consistency
from allocation.config import Settings
from allocation.domain import commands
from allocation.entrypoints.cli import migrate
from allocation.entrypoints.command_line.check import check
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from messaging.envelope import Request

USUAL, OLD = "CAF\u00c9", "CAFE\u0301"


def given(service: Service, *asked: commands.Command) -> None:
    for command in asked:
        for outcome in service.bus.handle_together([Request(command)]):
            outcome.unwrap()


@pytest.fixture
def old(service: Service) -> Service:
    """All of it is stored in the old form, as by a release that kept text as it was sent."""
    given(
        service,
        commands.CreateBatch(f"b-{OLD}", OLD, 10),
        commands.Allocate(f"o-{OLD}", OLD, 1, f"l-{OLD}"),
    )
    return service


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


def get(client: FlaskClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json


def test_new_text_is_one_whatever_form_it_comes_in(client: FlaskClient) -> None:
    first = client.post("/v1/batches", json={"ref": f"b-{OLD}", "sku": OLD, "qty": 10})
    again = client.post("/v1/batches", json={"ref": f"b-{USUAL}", "sku": USUAL, "qty": 10})
    line = client.post("/v1/allocations", json={"orderid": f"o-{OLD}", "sku": OLD, "qty": 1})

    assert (first.status_code, again.status_code, line.status_code) == (201, 200, 201)
    for form in (OLD, USUAL):
        assert get(client, f"/v1/products/{quote(form)}")["sku"] == USUAL
        assert get(client, f"/v1/batches/{quote(f'b-{form}')}")["ref"] == f"b-{USUAL}"
        assert get(client, f"/allocations/{quote(f'o-{form}')}") == [{"sku": USUAL, "batchref": f"b-{USUAL}"}]
        assert len(get(client, f"/v1/events?sku={quote(form)}")["items"]) == 2


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/products/{OLD}",
        f"/v1/batches/b-{OLD}",
        f"/v1/orders/o-{OLD}",
        f"/allocations/o-{OLD}",
        f"/console/product?sku={OLD}",
        f"/console/order?id=o-{OLD}",
    ],
)
@pytest.mark.usefixtures("old")
def test_what_is_stored_in_the_old_form_is_found_by_it_and_by_no_other(client: FlaskClient, path: str) -> None:
    assert client.get(quote(path, safe="/?=")).status_code == 200
    assert client.get(quote(path.replace(OLD, USUAL), safe="/?=")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/batches?sku={OLD}",
        f"/v1/orders?sku={OLD}",
        f"/v1/backorders?sku={OLD}",
        f"/v1/holds?sku={OLD}",
        f"/v1/events?sku={OLD}",
        f"/v1/events?orderid=o-{OLD}",
        f"/v1/events?sku={OLD}&orderid=o-{OLD}",
    ],
)
def test_lists_are_paged_through_in_the_old_form_too(old: Service, client: FlaskClient, path: str) -> None:
    given(old, commands.CreateBatch("b2", OLD, 5), commands.Allocate(f"o-{OLD}", OLD, 1, "l2"))
    given(old, *(commands.PlaceHold(f"h{number}", OLD, 1, 600) for number in range(2)))
    lines = tuple(commands.OrderedLine(OLD, 20, lineid) for lineid in ("l3", "l4"))
    given(old, commands.PlaceOrder(f"p-{OLD}", lines, "backorder"))
    whole = get(client, quote(path, safe="/?=&"))["items"]
    assert len(whole) >= 2

    seen, cursor = [], ""
    while cursor is not None:
        page = get(client, quote(path, safe="/?=&") + "&limit=1" + cursor)
        seen += page["items"]
        cursor = page["next"] and f"&cursor={page['next']}"

    assert seen == whole


@pytest.mark.usefixtures("old")
def test_the_search_of_the_console_finds_the_old_form(client: FlaskClient) -> None:
    assert OLD in client.get(f"/console?q={quote(OLD)}").text
    assert "b-" in client.get(f"/console?q={quote(f'b-{OLD}')}").text


def test_commands_about_what_is_stored_in_the_old_form_mean_that(
    old: Service, client: FlaskClient, engine: Engine, differences: Callable[[], list[str]]
) -> None:
    again = [
        client.post("/v1/batches", json={"ref": f"b-{OLD}", "sku": OLD, "qty": 10}),
        client.post("/v1/allocations", json={"orderid": f"o-{OLD}", "sku": OLD, "qty": 1, "lineid": f"l-{OLD}"}),
    ]
    new_line = client.post("/allocate", json={"orderid": "o2", "sku": OLD, "qty": 2})
    changed = client.patch(quote(f"/v1/batches/b-{OLD}"), json={"qty": 7}, headers={"If-Match": "*"})

    assert [answer.status_code for answer in (*again, new_line, changed)] == [200, 200, 202, 200]
    batch = old.views.batch(f"b-{OLD}")
    assert batch
    assert (batch.qty, batch.allocated) == (7, 3)
    assert not old.views.product(USUAL)
    assert differences() == []


@pytest.mark.usefixtures("old")
def test_the_usual_form_wins_where_both_are_stored(service: Service, client: FlaskClient) -> None:
    given(service, commands.CreateBatch("usual", USUAL, 5))

    client.post("/allocate", json={"orderid": "o2", "sku": OLD, "qty": 2})

    assert get(client, "/allocations/o2") == [{"sku": USUAL, "batchref": "usual"}]


@pytest.mark.usefixtures("old")
def test_check_and_migrate_list_old_forms_and_find_no_fault_in_them(settings: Settings, engine: Engine) -> None:
    names = [f"SKU {OLD!a}", f"batch {f'b-{OLD}'!a}", f"order {f'o-{OLD}'!a}", f"line {f'l-{OLD}'!a}"]

    assert check_consistency(engine).is_consistent
    for command in (check, migrate):
        for options in ([], ["--json"]):
            result = CliRunner().invoke(command, options, obj=settings, catch_exceptions=False)
            assert result.exit_code == 0
            for name in names:
                assert f"{name} is not in the form in which names are kept now (NFC)" in result.stderr


def test_nothing_is_said_where_all_is_in_the_usual_form(service: Service, settings: Settings) -> None:
    given(service, commands.CreateBatch(USUAL, USUAL, 10), commands.Allocate(USUAL, USUAL, 1, USUAL))

    for command in (check, migrate):
        assert "NFC" not in CliRunner().invoke(command, obj=settings, catch_exceptions=False).output
