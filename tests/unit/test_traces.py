"""One trace from a request to whoever hears of it, put together from spans that know nothing of each other."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tests import fakes

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.bootstrap import Service
from allocation.config import Settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.domain.errors import DomainError
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.entrypoints.http.traces import add_traces
from allocation.entrypoints.inbound import read
from allocation.observability import traces as adapter
from allocation.observability.traces import Traces
from allocation.observers import observer_for
from messaging.envelope import Metadata, Request
from messaging.errors import Unavailable
from messaging.trace_context import trace_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LINE = {"orderid": "o1", "sku": "LAMP", "qty": 1}


class World:
    """The service in memory, under the eyes of one who keeps every span."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.traces = Traces(SimpleSpanProcessor(self.exporter))
        self.service = fakes.Service()
        self.bus = self.service.bus = replace(self.service.bus, observer=self.traces)
        self.relay = self.service.relay = replace(self.service.relay, observer=self.traces)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def tree(self) -> dict[str, str | None]:
        """The parent of each span, by their names."""
        names = {span.context.span_id: name for name, span in self.spans().items()}
        return {name: names.get(span.parent.span_id) if span.parent else None for name, span in self.spans().items()}

    def trace_ids(self) -> set[str]:
        return {f"{span.context.trace_id:032x}" for span in self.spans().values()}


@pytest.fixture
def world() -> World:
    return World()


def test_a_request_its_command_what_happened_and_what_was_published_are_one_trace(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "traces", lambda: world.traces)
    app = create_app(cast(Service, world), UNRESTRICTED)
    add_traces(app, world.bus.observer)
    world.service.given(CreateBatch("b1", "LAMP", 10))
    world.service.relay.deliver("publish_event")
    world.exporter.clear()

    app.test_client().post("/allocate", json=LINE, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    world.service.relay.deliver("publish_event")

    assert world.tree() == {
        "POST /allocate": None,
        "Allocate": "POST /allocate",
        "Allocated": "POST /allocate",
        "publish_event Allocated": "Allocated",
    }
    assert world.trace_ids() == {TRACE}
    request = world.spans()["POST /allocate"]
    assert request.parent
    assert (f"{request.parent.span_id:016x}", request.kind) == (SPAN, SpanKind.SERVER)
    assert dict(request.attributes or {})["http.response.status_code"] == 202
    assert dict(request.attributes or {})["http.route"] == "/allocate"


def test_whoever_asks_whether_it_is_alive_leaves_no_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "traces", lambda: world.traces)
    app = create_app(cast(Service, world), UNRESTRICTED)
    add_traces(app, world.bus.observer)

    app.test_client().get("/healthz")

    assert world.spans() == {}


def test_the_service_is_named_as_the_operator_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert World().traces.provider.resource.attributes["service.name"] == "allocation"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "stock")
    assert World().traces.provider.resource.attributes["service.name"] == "stock"


def test_what_is_done_about_an_event_is_below_it_and_the_next_service_goes_on_from_there(world: World) -> None:
    world.service.given(CreateBatch("b1", "LAMP", 10), CreateBatch("b2", "LAMP", 10), Allocate("o1", "LAMP", 10))
    while world.service.relay.deliver("publish_event"):
        pass
    world.exporter.clear()

    world.bus.handle(ChangeBatchQuantity("b1", 5), Metadata.first("redis", "till-5/4711"))
    world.service.relay.deliver("publish_event")

    tree = world.tree()
    assert tree["ChangeBatchQuantity"] is None
    assert tree["Deallocated"] == tree["BatchQuantityChanged"] == "ChangeBatchQuantity"
    assert tree["Allocated"] == "Deallocated"
    assert tree["publish_event Allocated"] == "Allocated"
    assert len(world.trace_ids()) == 1
    told = world.service.memory.log["LAMP"][-1]
    allocated = world.spans()["Allocated"].context
    expected = f"00-{allocated.trace_id:032x}-{allocated.span_id:016x}-01"
    assert f'"traceparent":"{expected}"'.encode() in replace(CLOUD_EVENTS, traced=True).encode(told)
    assert b"traceparent" not in CLOUD_EVENTS.encode(told)


def test_a_command_over_redis_goes_on_in_the_trace_of_its_sender(world: World) -> None:
    body = (
        '{"specversion": "1.0", "id": "1", "source": "/shop", "type": "allocation.create_batch.v1", '
        f'"traceparent": "00-{TRACE}-{SPAN}-01", "data": {{"ref": "b1", "sku": "LAMP", "qty": 1}}}}'
    )
    request = read("allocation.commands", body.encode())

    world.bus.handle(request.command, request.metadata)

    span = world.spans()["CreateBatch"]
    assert span.parent
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.kind == SpanKind.CONSUMER
    assert world.trace_ids() == {TRACE}


def test_a_sender_that_calls_itself_http_is_not_taken_for_a_request(world: World) -> None:
    body = (
        '{"specversion": "1.0", "id": "1", "source": "http", "type": "allocation.create_batch.v1", '
        '"data": {"ref": "b1", "sku": "LAMP", "qty": 1}}'
    )
    request = read("allocation.commands", body.encode())

    world.bus.handle(request.command, request.metadata)

    span = world.spans()["CreateBatch"]
    assert (span.parent, span.kind) == (None, SpanKind.CONSUMER)


def test_who_brings_an_id_and_another_trace_has_two_that_are_linked(world: World) -> None:
    metadata = Metadata.first("redis", "till-5/4711")

    world.bus.handle(CreateBatch("b1", "LAMP", 1), replace(metadata, causation_id=f"00-{TRACE}-{SPAN}-01"))

    span = world.spans()["CreateBatch"]
    [link] = span.links
    assert span.parent is None
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE, SPAN)
    assert dict(span.attributes or {})["allocation.correlation_id"] == "till-5/4711"


def test_commands_that_share_a_transaction_stay_in_traces_of_their_own(world: World) -> None:
    requests = [Request(CreateBatch(f"b{number}", "LAMP", 1), Metadata.first("redis")) for number in range(3)]

    world.bus.handle_together(requests)

    handled = [span for span in world.exporter.get_finished_spans() if span.name == "CreateBatch"]
    assert [f"{span.context.trace_id:032x}" for span in handled[::-1]] == [
        trace_id(request.metadata.correlation_id) for request in requests
    ]
    assert [dict(span.attributes or {})["allocation.commands_together"] for span in handled] == [3, 3, 3]


def test_a_refusal_is_said_and_a_failure_is_an_error(world: World) -> None:
    with pytest.raises(DomainError):
        world.bus.handle(Allocate("o1", "NIX", 1))
    assert dict(world.spans()["Allocate"].attributes or {})["allocation.refusal"] == "InvalidSku"
    assert world.spans()["Allocate"].status.status_code != StatusCode.ERROR

    world.service.given(CreateBatch("b1", "LAMP", 1))
    world.service.publisher.failures["LAMP"] = Unavailable("away")
    world.service.relay.deliver("publish_event")

    assert world.spans()["publish_event BatchCreated"].status.status_code == StatusCode.ERROR


def test_of_a_trace_all_is_kept_or_nothing_in_whatever_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process decides by the id alone."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    asked, telling = World(), World()
    telling.service.memory = asked.service.memory
    for number in range(40):
        asked.bus.handle(CreateBatch(f"b{number}", f"SKU-{number}", 1))
    relay = replace(asked.service.relay, observer=telling.traces)

    while relay.deliver("publish_event"):
        pass

    kept = {span.context.trace_id for span in asked.exporter.get_finished_spans()}
    told = {span.context.trace_id for span in telling.exporter.get_finished_spans()}
    assert kept == told
    assert 0 < len(kept) < 40


def test_where_the_extra_is_not_installed_all_goes_on_without_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "allocation.observability.traces", None)

    observer = observer_for(Settings(traces_to="http://127.0.0.1:4318"))

    assert not observer.keeps_traces
    assert caplog.messages == ["no traces are kept; install allocation[otel]"]


def test_who_keeps_no_traces_loads_nothing_of_them() -> None:
    """Nobody imports them at the top of a module, but the one that is imported where they are kept."""
    traced = re.compile(r"opentelemetry|adapters\.traces")
    sources = {*Path(adapter.__file__).parents[2].rglob("*.py")} - {Path(adapter.__file__)}
    for file, text in {(file, file.read_text("utf-8")) for file in sources}:
        for node in ast.parse(text).body if traced.search(text) else ():
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not traced.search(ast.unparse(node)), file
