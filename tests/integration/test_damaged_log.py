"""One damaged row of the log stands in nobody's way, whoever reads it, and is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from flask.testing import FlaskClient
from tests.integration.conftest import Sql

from allocation.bootstrap import Service
from allocation.config import Settings
from allocation.domain import commands
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED

DAMAGES = [
    "time = 'infinity'",
    "time = '-infinity'",
    "time = '0044-03-15 12:00:00+00 BC'",
    "time = '12026-01-01 00:00:00+00'",
    """data = data || ('{"deep": ' || repeat('[', 5000) || repeat(']', 5000) || '}')::jsonb""",
]
PUBLISH = "publish_event"


@pytest.fixture(params=DAMAGES)
def damaged(request: pytest.FixtureRequest, service: Service, sql: Sql) -> Service:
    """Of three SKUs the second event of LAMP is damaged, and another thing is wrong as well."""
    for sku in ("DESK", "LAMP", "SOFA"):
        service.bus.handle(commands.CreateBatch(f"b-{sku}", sku, 10))
        for number in range(3):
            service.bus.handle(commands.Allocate(f"o{number}", sku, 1))
    sql(f"UPDATE event_log SET {request.param} WHERE stream = 'LAMP' AND version = 2")
    sql("UPDATE allocations_view SET qty = 7 WHERE sku = 'SOFA' AND orderid = 'o0'")
    return service


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


def pages(client: FlaskClient, **asked: object) -> list[tuple[str, int]]:
    """Of all that is found."""
    found: list[tuple[str, int]] = []
    cursor: dict[str, object] = {}
    while True:
        answer = client.get("/v1/events", query_string={**asked, **cursor})
        assert answer.status_code == 200, answer.text
        page: Any = answer.get_json()
        found += [(event["sku"], event["version"]) for event in page["items"]]
        if not page["next"]:
            return found
        cursor = {"cursor": page["next"]}


SOUND = [
    (sku, version) for sku in ("DESK", "LAMP", "SOFA") for version in (1, 2, 3, 4) if (sku, version) != ("LAMP", 2)
]


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_events_over_http_are_all_the_others(
    damaged: Service, client: FlaskClient, caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    hour = timedelta(hours=1)
    about_now = {
        "since": (datetime.now(UTC) - hour).isoformat(),
        "until": (datetime.now(UTC) + hour).isoformat(),
    }

    assert pages(client, limit=limit) == SOUND
    assert pages(client, limit=limit, **about_now) == SOUND
    assert pages(client, limit=limit, sku="LAMP") == [("LAMP", 1), ("LAMP", 3), ("LAMP", 4)]
    assert pages(client, limit=limit, sku="LAMP", **about_now) == [("LAMP", 1), ("LAMP", 3), ("LAMP", 4)]
    assert pages(client, limit=limit, orderid="o0") == [("DESK", 2), ("SOFA", 2)]
    said = [record for record in caplog.records if record.message == "the log holds what can't be read"]
    assert {(vars(record)["stream"], vars(record)["version"]) for record in said} == {("LAMP", 2)}
    assert damaged.views.stock_history("LAMP", None, 10)


def test_pages_and_gauges_show_the_others(damaged: Service, client: FlaskClient) -> None:
    history = damaged.views.stock_history("LAMP", None, 10)
    assert history
    assert [step.version for step in history.steps] == [4, 3, 2, 1]
    assert [event.version for event in damaged.log.latest(100) if event.stream == "LAMP"] == [1, 3, 4]
    for page in ("/console/product?sku=LAMP", "/console/order?id=o0", "/console"):
        assert client.get(page).status_code == 200, page


@pytest.mark.parametrize("time", ["infinity", "-infinity"])
def test_what_waits_has_an_age_though_one_event_has_none(service: Service, sql: Sql, time: str) -> None:
    for sku in ("DESK", "LAMP"):
        service.bus.handle(commands.CreateBatch(f"b-{sku}", sku, 10))
    sql(f"UPDATE event_log SET time = '{time}' WHERE stream = 'LAMP'")

    [backlog] = service.waiting().backlogs[:1]

    assert (backlog.effect, backlog.waiting) == (PUBLISH, 2)
    assert backlog.oldest is not None
    assert backlog.oldest < 600


def test_the_relay_and_the_refill_publish_the_others_and_the_dead_letter_can_be_seen(
    damaged: Service, redis_server: redis.Redis, settings: Settings
) -> None:
    def told() -> list[tuple[str, int]]:
        entries: Any = redis_server.xrange("allocation.events")
        events = [json.loads(fields[b"event"]) for _, fields in entries]
        return sorted((event["subject"], int(event["sequence"])) for event in events)

    while damaged.relay.deliver(PUBLISH):
        pass
    assert told() == [(sku, version) for sku, version in SOUND if sku != "LAMP" or version == 1]
    listed = CliRunner(env=settings.as_environment({})).invoke(main, ["dead-letters", "list", "--json"])
    assert json.loads(listed.stdout)["id"] == f"effect:{PUBLISH}:2:LAMP"

    redis_server.flushall()
    damaged.backfill.fill()

    assert told() == [(sku, version) for sku, version in SOUND if sku != "LAMP" or version == 1]


def test_check_names_it_and_goes_on(damaged: Service, settings: Settings) -> None:
    result = CliRunner(env=settings.as_environment({})).invoke(main, ["check", "--all"])

    assert result.exit_code == 1
    assert "event 2 of 'LAMP': expected one that can be read" in result.output
    assert "line 'SOFA' of order 'o0' in allocations_view" in result.output
