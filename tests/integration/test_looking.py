"""`allocation explain`, `backorders`, `orders` and `holds`, beside what the page on a day of orders shows of them; and
what it costs to ask."""

from __future__ import annotations

import json
from datetime import date
from typing import get_args

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text
from tests.integration.plans import explained

from allocation.bootstrap import Service
from allocation.config import Settings
from allocation.domain.commands import (
    CreateBatch,
    Dispatch,
    OrderedLine,
    ParcelLine,
    PlaceHold,
    PlaceOrder,
    Quarantine,
    ReturnLine,
)
from allocation.domain.ordering import Status
from allocation.entrypoints.cli import main
from allocation.entrypoints.command_line import looking
from allocation.entrypoints.command_line.looking import STATES
from allocation.views.backorders import backorders, backorders_of


@pytest.fixture(autouse=True)
def three_wait(service: Service) -> None:
    service.bus.handle(CreateBatch("b", "LAMP", 1))
    for number in range(3):
        service.bus.handle(PlaceOrder(f"o-{number}", (OrderedLine("LAMP", 2, "1"),), "backorder"))


def ask(settings: Settings, *arguments: str) -> Result:
    return CliRunner(env=settings.as_environment({}) | {"LOG_LEVEL": "ERROR"}).invoke(main, arguments)


@pytest.fixture
def pages_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_A_PAGE", 1)


@pytest.mark.usefixtures("pages_of_one")
def test_lists_are_json_a_line_and_end_at_the_limit(settings: Settings) -> None:
    for word in ("backorders", "orders"):
        found = ask(settings, word, "--json", "--limit", "2")

        assert [json.loads(line)["orderid"] for line in found.stdout.splitlines()] == ["o-0", "o-1"]
        assert found.stderr == "There are more than 2; see --limit.\n"


@pytest.mark.usefixtures("pages_of_one")
def test_what_is_held_is_listed_until_it_runs_out(service: Service, settings: Settings) -> None:
    assert ask(settings, "holds").stdout == "Nothing is held.\n"
    service.bus.handle(CreateBatch("t", "TENT", 9))
    for number in range(3):
        service.bus.handle(PlaceHold(f"cart-{number}", "TENT", 1, 600))
    service.bus.handle(PlaceHold("over", "TENT", 1, 600))
    with service.engine.begin() as connection:
        connection.execute(text("UPDATE holds SET until = now() WHERE hold_id = 'over'"))

    found = ask(settings, "holds", "--json", "--limit", "2")

    assert [json.loads(line)["hold_id"] for line in found.stdout.splitlines()] == ["cart-0", "cart-1"]
    assert found.stderr == "There are more than 2; see --limit.\n"
    assert [line.split()[:4] for line in ask(settings, "holds", "TENT").stdout.splitlines()[1:]] == [
        [f"cart-{number}", "TENT", "1", "t"] for number in range(3)
    ]
    assert ask(settings, "holds", "LAMP").stdout == "Nothing is held.\n"


@pytest.mark.usefixtures("pages_of_one")
def test_batches_are_listed_and_those_that_somebody_must_see_to(service: Service, settings: Settings) -> None:
    service.bus.handle(CreateBatch("ship", "LAMP", 1, date(2020, 1, 1)))
    service.bus.handle(Quarantine("b", 1, "damaged", "q"))

    def refs(*options: str) -> list[str]:
        return [json.loads(line)["ref"] for line in ask(settings, "batches", "--json", *options).stdout.splitlines()]

    assert refs() == ["b", "ship"]
    assert refs("LAMP") == ["b", "ship"]
    assert refs("--overdue") == ["ship"]
    assert refs("--quarantined") == ["b"]
    assert ask(settings, "batches", "SOFA").stdout == "There is no such batch.\n"
    table = ask(settings, "batches", "--overdue").stdout.splitlines()
    assert table[1].split() == ["ship", "LAMP", "overdue", "2020-01-01", "1", "1", "0", "0", "0", "0"]


def test_an_order_is_shown_line_by_line(service: Service, settings: Settings) -> None:
    service.bus.handle(CreateBatch("c", "LAMP", 7))
    service.bus.handle(PlaceOrder("two", (OrderedLine("LAMP", 4, "1"),), "partial", needed_by=date(2199, 1, 1)))
    service.bus.handle(Dispatch("two", "d", (ParcelLine("1", 1),)))
    service.bus.handle(ReturnLine("two", "1", 1, "r", "good"))

    shown = ask(settings, "order", "two").stdout.splitlines()

    assert shown[0] == "Order two is open."
    assert " ".join(shown[2].split()) == "1 LAMP 4 2 1 of c, 1 of b 1 1 0 1 2199-01-01"
    assert json.loads(ask(settings, "order", "two", "--json").stdout)["status"] == "open"
    unknown = ask(settings, "order", "three")
    assert (unknown.exit_code, unknown.stderr) == (1, "Error: no line of order three was ever allocated, nor waits\n")


def test_orders_are_found_by_state_sku_and_age(settings: Settings) -> None:
    assert len(ask(settings, "orders", "--state", "open", "--sku", "LAMP", "--since", "1h", "--json").stdout) > 3
    for other in (["--state", "cancelled"], ["--sku", "LAM"]):
        assert ask(settings, "orders", *other).stdout == "There is no such order.\n"


def test_what_can_t_be_explained_names_value_and_rule(settings: Settings) -> None:
    unknown, too_few = ask(settings, "explain", "LAMPS", "1"), ask(settings, "explain", "LAMP", "0")

    assert (unknown.exit_code, unknown.stderr) == (1, "Error: Invalid sku LAMPS\n")
    assert (too_few.exit_code, "greater than or equal to 1, not 0" in too_few.stderr) == (2, True)


def test_a_dry_run_of_a_whole_order_is_an_object(settings: Settings) -> None:
    order = ["--orderid", "o-9", "--lines", '[{"sku": "LAMP", "qty": 2}]', "--mode", "partial"]
    found = json.loads(ask(settings, "place-order", *order, "--dry-run", "--json").stdout)

    assert found["result"]["outcome"] == "partly_allocated"
    assert [event["type"] for event in found["events"]] == ["allocation.allocated.v1", "allocation.backordered.v1"]


def test_every_state_of_an_order_may_be_asked_for() -> None:
    assert set(STATES) == set(get_args(Status))


@pytest.mark.own_database  # what others have deleted is in the indexes still
def test_who_waits_for_a_sku_or_in_an_order_is_found_without_those_who_wait_for_others(engine: Engine) -> None:
    """Also by a plan that is kept for whatever is asked."""
    with engine.connect() as asked:
        columns = "sku, since, orderid, lineid, qty, needs, turn, places"
        rows = "SELECT 'Z' || n, n, 'o' || n, '1', 5, 5, -5, 0 FROM generate_series(1, 5000) AS n"
        asked.execute(text(f"INSERT INTO backorders ({columns}) {rows}"))
        asked.execute(text("ANALYZE backorders"))
        with explained() as plans:
            for _ in range(10):
                assert len(backorders(asked, "LAMP", None, 50, "UTC")[0]) == 3
                assert len(backorders_of(asked, "o-1", "UTC")) == 1

    assert not [str(plan) for plan in plans if plan.rows > 40]
