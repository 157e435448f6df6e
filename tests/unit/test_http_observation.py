"""What is seen of each request, and what `GET /metrics` says, whatever is away."""

from __future__ import annotations

import logging
import re
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import create_engine
from tests import fakes
from tests.one_app import client_of

from allocation.bootstrap import Service
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http import observation as http_observation
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.entrypoints.http.back_pressure import LONGEST_WAIT, WAITED
from allocation.observability.metrics import metrics
from messaging.correlation import WORKING_ON
from messaging.errors import Unavailable
from messaging.redis.lag import Lag
from messaging.sql.backlog import waiting

COUNT = "allocation_http_request_duration_seconds_count"
BATCH = {"ref": "b1", "sku": "TABLE", "qty": 10, "eta": None}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Api:
    """The app on a service in memory, whose database and Redis are away."""

    def __init__(self) -> None:
        self.service = fakes.Service()
        self.bus = self.service.bus
        self.relay = self.service.relay
        self.views = self
        nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"
        self.engine = create_engine(nowhere, connect_args={"connect_timeout": 1})
        self.waiting = partial(waiting, self.engine)
        self.command_group = SimpleNamespace(lag=self.lag)
        self.client = client_of(self)

    def lag(self) -> Lag:
        raise Unavailable("redis is away")

    def allocations(self, orderid: str) -> list[dict[str, str]]:
        assert WORKING_ON.get()
        raise ZeroDivisionError(orderid)


@pytest.fixture
def api() -> Api:
    return Api()


def counted(method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return metrics().registry.get_sample_value(COUNT, labels) or 0.0


def test_requests_are_counted_by_route_and_never_by_what_callers_write(api: Api) -> None:
    before = counted("POST", "/add_batch", 201), counted("GET", "none", 404), counted("other", "none", 405)

    api.client.post("/add_batch", json=BATCH)
    api.client.get("/nobody/knows/this")
    api.client.open("/add_batch", method="BREW")

    assert counted("POST", "/add_batch", 201) == before[0] + 1
    assert counted("GET", "none", 404) == before[1] + 1
    assert counted("other", "none", 405) == before[2] + 1
    assert "BREW" not in api.client.get("/metrics").text


def test_who_is_put_off_is_counted(api: Api) -> None:
    def shed() -> float:
        return metrics().registry.get_sample_value("allocation_http_shed_total") or 0.0

    before = shed()

    api.client.post("/add_batch", json=BATCH, environ_overrides={WAITED: LONGEST_WAIT + 1})

    assert shed() == before + 1


def test_metrics_are_told_though_all_is_away_and_though_there_is_too_much_to_do(api: Api) -> None:
    answer = api.client.get("/metrics", environ_overrides={WAITED: 60.0})

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'allocation_up{part="database"} 0.0' in answer.text
    assert 'allocation_up{part="redis"} 0.0' in answer.text
    for name in set(re.findall(r"^(allocation_\w+)", answer.text, re.MULTILINE)):
        assert f"# HELP {re.sub('_(bucket|count|sum|created)$', '', name)}" in answer.text


def test_a_failure_is_one_line_under_its_id_and_a_success_none(api: Api) -> None:
    seen: list[tuple[str, str]] = []

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.getMessage(), WORKING_ON.get()))

    listen = Listen()
    logging.getLogger().addHandler(listen)
    try:
        api.client.post("/add_batch", json=BATCH)
        api.client.get("/allocations/o1", headers={"X-Request-ID": "till-5/4711"})
    finally:
        logging.getLogger().removeHandler(listen)

    assert seen == [("internal error", "till-5/4711")]
    assert WORKING_ON.get() == ""


def test_what_takes_long_has_a_line(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_observation, "SLOW", 0.0)

    api.client.post("/add_batch", json=BATCH)

    [line] = caplog.records
    about: Any = line
    assert (about.message, about.method, about.path, about.status) == ("slow", "POST", "/add_batch", 201)


def test_every_request_has_a_line_for_whoever_wants_to_see_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        app = create_app(cast(Service, Api()), UNRESTRICTED)  # it asks at its making whether anybody wants them
        app.test_client().post("/add_batch", json=BATCH)

    assert "answered" in caplog.messages


@pytest.mark.parametrize(
    ("headers", "correlation_id"),
    [
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-ID": "till-5"}, "till-5"),
        ({"traceparent": "nonsense", "X-Request-ID": "till-5"}, "till-5"),
    ],
)
def test_the_trace_of_a_caller_is_the_correlation_unless_it_gives_another(
    api: Api, headers: dict[str, str], correlation_id: str
) -> None:
    answer = api.client.post("/add_batch", json=BATCH, headers=headers)

    assert answer.headers["X-Request-ID"] == correlation_id
    assert api.service.memory.log["TABLE"][0].metadata.correlation_id == correlation_id
