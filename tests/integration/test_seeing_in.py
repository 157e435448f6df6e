"""What waits is measured where it waits, and one trace leads from a request through both servers to the consumer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from allocation.adapters.redis_channels import COMMANDS, EVENTS
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints import redis_commands
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.entrypoints.http.traces import add_traces
from allocation.observability import traces as adapter
from allocation.observability.traces import Traces
from embedded.waiting import wait_for
from messaging.redis.client import redis_client
from messaging.redis.group import ConsumerGroup
from messaging.redis.lag import Lag
from messaging.sql.backlog import Backlog, Waiting, waiting

Sql = Callable[..., list[tuple[Any, ...]]]
PUBLISH, MAIL = "publish_event", "send_out_of_stock_notification"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


# --- what waits --------------------------------------------------------------------


def test_an_empty_outbox_has_nothing_that_is_old(service: Service) -> None:
    assert waiting(service.engine) == Waiting([], 0)
    assert service.waiting() == Waiting([Backlog(PUBLISH), Backlog(MAIL)], 0), "each that we have is told of"
    assert waiting(service.engine, ["b", "a"]).backlogs == [Backlog("a"), Backlog("b")]
    assert Backlog(PUBLISH) == Backlog(PUBLISH, waiting=0, streams=0, failing=0, dead=0, oldest=None, is_complete=True)


def test_what_waits_is_counted_by_effect_with_the_age_of_the_oldest(service: Service, sql: Sql) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 1))
    service.bus.handle(CreateBatch("b2", "DESK", 1))
    service.bus.handle(Allocate("o1", "DESK", 2))
    sql("UPDATE event_log SET time = now() - interval '1 hour' WHERE stream = 'LAMP'")

    published, mailed = waiting(service.engine).backlogs

    assert (published.effect, mailed.effect) == (PUBLISH, MAIL)
    assert (published.waiting, mailed.waiting) == (3, 1)
    assert published.oldest is not None
    assert mailed.oldest is not None
    assert 3600 <= published.oldest < 3660
    assert 0 <= mailed.oldest < 60


def test_what_waits_for_an_effect_that_we_no_longer_have_is_published_too(service: Service) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 1))

    assert [backlog.effect for backlog in waiting(service.engine, ["a mail"]).backlogs] == ["a mail", PUBLISH]


def test_what_is_dead_is_counted_and_not_taken_for_old(service: Service, sql: Sql) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 1))
    service.bus.handle(CreateBatch("b2", "DESK", 1))
    sql("UPDATE event_log SET time = now() - interval '1 hour' WHERE stream = 'LAMP'")
    sql("UPDATE outbox SET dead_at = now(), reason = 'as a test' WHERE stream = 'LAMP'")
    service.dead_letters.store(source="channel", body=b"", reason="as a test")

    found = waiting(service.engine)
    [published] = found.backlogs

    assert (published.waiting, published.dead) == (2, 1)
    assert published.oldest is not None
    assert published.oldest < 60
    assert found.dead_messages == 1


def test_the_lag_of_a_stream_is_what_nobody_has_done(every_redis_url: str) -> None:
    with redis_client(every_redis_url) as client:
        group = ConsumerGroup(client, stream="s", field="f", group="g", consumer="c", keep=timedelta(hours=1))
        assert group.lag() == Lag(0, 0, None)
        old = int((time.time() - 60) * 1000)
        for number in range(5):
            client.xadd("s", {"f": "x"}, id=f"{old + number}-0")
        nobody = group.lag()
        assert (nobody.unread, nobody.readers) == (5, ()), "before anybody has come"
        assert nobody.oldest is not None
        assert 59 < nobody.oldest < 120
        group.take_over()
        assert (group.lag().unread, group.lag().pending) == (5, 0)
        assert 59 < (group.lag().oldest or 0.0) < 120

        entries = group.new(2, 0.1)
        assert (group.lag().unread, group.lag().pending) == (3, 2)
        group.acknowledge(entries + group.new(3, 0.1))

        assert group.lag() == Lag(0, 0, None, ("c",))


def test_metrics_are_told_while_the_database_is_away(
    settings: Settings, database_away: Callable[[], AbstractContextManager[None]]
) -> None:
    service = bootstrap(settings, callers_wait=True)
    client = create_app(service, UNRESTRICTED).test_client()
    try:
        assert 'allocation_up{part="database"} 1.0' in client.get("/metrics").text
        assert f'allocation_outbox_waiting{{effect="{MAIL}"}} 0.0' in client.get("/metrics").text
        with database_away():

            def says_so() -> bool:
                answer = client.get("/metrics")
                assert answer.status_code == 200
                assert 'allocation_up{part="redis"} 1.0' in answer.text
                return 'allocation_up{part="database"} 0.0' in answer.text

            assert wait_for(says_so, within=20)
    finally:
        service.close()


# --- one trace -----------------------------------------------------------------------


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(settings: Settings, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    traces = Traces(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(adapter, "traces", lambda: traces)
    service = bootstrap(settings, observer=traces)
    yield service
    service.close()


def test_one_trace_leads_from_http_through_outbox_and_redis_to_the_consumer(
    traced: Service, exporter: InMemorySpanExporter
) -> None:
    """What stands for the next service takes the trace from the event, and asks us something over the stream."""
    app = create_app(traced, UNRESTRICTED)
    add_traces(app, traced.bus.observer)
    traced.bus.handle(CreateBatch("b1", "LAMP", 10))
    while traced.relay.deliver(PUBLISH):
        pass
    exporter.clear()

    line = {"orderid": "o1", "sku": "LAMP", "qty": 3}
    app.test_client().post("/allocate", json=line, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    while traced.relay.deliver(PUBLISH):
        pass
    entries: Any = traced.redis.xrevrange(EVENTS, count=1)
    event = json.loads(entries[0][1][b"event"])
    command = {
        "specversion": "1.0",
        "id": "next",
        "source": "/next",
        "type": "allocation.change_batch_quantity.v1",
        "traceparent": event["traceparent"],
        "data": {"batchref": "b1", "qty": 20},
    }
    traced.redis.xadd(COMMANDS, {"command": json.dumps(command)})
    stop = Event()
    consumer = Thread(target=redis_commands.run, args=(traced, stop))
    consumer.start()
    try:
        names = {"POST /allocate", "Allocate", "Allocated", "publish_event Allocated", "ChangeBatchQuantity"}
        assert wait_for(lambda: names <= {span.name for span in exporter.get_finished_spans()}, within=20)
    finally:
        stop.set()
        consumer.join()

    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    parents = {name: span.parent.span_id for name, span in spans.items() if span.parent}
    assert f"{parents['POST /allocate']:016x}" == SPAN
    assert parents["Allocate"] == parents["Allocated"] == spans["POST /allocate"].context.span_id
    assert parents["publish_event Allocated"] == spans["Allocated"].context.span_id
    assert parents["ChangeBatchQuantity"] == spans["Allocated"].context.span_id
    assert parents["BatchQuantityChanged"] == spans["ChangeBatchQuantity"].context.span_id
