"""Spans for OpenTelemetry: from a request through log, outbox and Redis to whoever takes it up, in one trace.

Imported only where traces are kept, since it needs the extra `otel`. What is sent, where and how much of it is for
OpenTelemetry's own settings (OTEL_*) to say. Ids are not drawn but computed: see `messaging.trace_context`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from messaging.envelope import Delivery, Metadata, Outcome, Recorded, Request
from messaging.observation import DeliveryEnded, HandlingEnded, Observer
from messaging.trace_context import SpanRef, span_of, span_of_cause

Attributes: TypeAlias = Mapping[str, str | int]

_SPAN: ContextVar[SpanRef | None] = ContextVar("span", default=None)


class _Ids(IdGenerator):
    """Those of the message whose span is begun; else any."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        ref = _SPAN.get()
        return int(ref.trace_id, 16) if ref else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        ref = _SPAN.get()
        return int(ref.span_id, 16) if ref else self._random.generate_span_id()


class Traces(Observer):
    keeps_traces = True

    def __init__(self, processor: SpanProcessor) -> None:
        self.provider = TracerProvider(id_generator=_Ids(), resource=_named(Resource.create()))
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer("allocation")
        self._answering: set[str] = set()  # ids of requests that have a span; a command has its request's id

    # --- the machinery's observer ------------------------------------------------

    def handling(self, requests: Sequence[Request]) -> HandlingEnded:
        """Commands that share a transaction have spans of the same time, each in its own trace."""
        spans = ExitStack()
        begun = [spans.enter_context(self._handling(request, len(requests))) for request in requests]

        def end(ended: list[Outcome] | BaseException) -> None:
            for span, outcome in zip(begun, () if isinstance(ended, BaseException) else ended, strict=False):
                if outcome.refusal:
                    span.set_attribute("allocation.refusal", type(outcome.refusal).__name__)
            _close(spans, ended)

        return end

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        """An event is a moment; what is done about it is below it."""
        for one in recorded:
            attributes: Attributes = {"allocation.stream": one.stream, "allocation.version": one.version}
            with self._message(one.metadata, type(one.event).__name__, SpanKind.INTERNAL, attributes):
                pass

    def delivering(self, effect: str, deliveries: Sequence[Delivery[object]]) -> DeliveryEnded:
        spans = ExitStack()
        begun = [spans.enter_context(self._delivering(effect, delivery)) for delivery in deliveries]

        def end(ended: Mapping[str, Exception] | BaseException) -> None:
            for span, delivery in zip(begun, deliveries, strict=True):
                failure = None if isinstance(ended, BaseException) else ended.get(delivery.recorded.stream)
                if failure:
                    span.set_status(Status(StatusCode.ERROR, repr(failure)))
            _close(spans, ended)

        return end

    # --- what entrypoints report ---------------------------------------------------

    @contextmanager
    def answering(self, metadata: Metadata, name: str) -> Iterator[Span]:
        """The span of a request from outside, whose caller's traceparent, if it sent one, is its cause."""
        with self._message(metadata, name, SpanKind.SERVER, {}) as span:
            self._answering.add(metadata.id)
            try:
                yield span
            finally:
                self._answering.discard(metadata.id)

    # --- spans -------------------------------------------------------------------

    @contextmanager
    def _handling(self, request: Request, together: int) -> Iterator[Span]:
        name, attributes = type(request.command).__name__, {"allocation.commands_together": together}
        if request.metadata.id in self._answering:  # perhaps in another thread, which handles several together
            with self._below(span_of(request.metadata), name, SpanKind.INTERNAL, attributes) as span:
                yield span
        else:
            with self._message(request.metadata, name, SpanKind.CONSUMER, attributes) as span:
                yield span

    @contextmanager
    def _delivering(self, effect: str, delivery: Delivery[object]) -> Iterator[Span]:
        recorded = delivery.recorded
        name = f"{effect} {type(recorded.event).__name__}"
        attributes = {"messaging.message.id": recorded.metadata.id, "allocation.stream": recorded.stream}
        with self._below(span_of(recorded.metadata), name, SpanKind.PRODUCER, attributes) as span:
            yield span

    @contextmanager
    def _message(self, metadata: Metadata, name: str, kind: SpanKind, attributes: Attributes) -> Iterator[Span]:
        """The span that a message is. A cause in another trace is linked: the correlation id says which trace it is."""
        ref, cause = span_of(metadata), span_of_cause(metadata)
        same = cause is not None and cause.trace_id == ref.trace_id
        links = [Link(self._context_of(cause))] if cause and not same else []
        parent = self._parent(cause) if cause and same else Context()
        told = {**attributes, "allocation.correlation_id": metadata.correlation_id}
        token = _SPAN.set(ref)
        try:
            span = self._tracer.start_span(name, parent, kind, told, links)
        finally:
            _SPAN.reset(token)
        with trace.use_span(span, end_on_exit=True):
            yield span

    @contextmanager
    def _below(self, ref: SpanRef, name: str, kind: SpanKind, attributes: Attributes) -> Iterator[Span]:
        with self._tracer.start_as_current_span(name, self._parent(ref), kind, attributes) as span:
            yield span

    def _parent(self, ref: SpanRef) -> Context:
        return trace.set_span_in_context(NonRecordingSpan(self._context_of(ref)), Context())

    def _context_of(self, ref: SpanRef) -> SpanContext:
        """As it was when that span began, perhaps in another process: a sampler decides by the trace's id."""
        trace_id = int(ref.trace_id, 16)
        sampled = self.provider.sampler.should_sample(Context(), trace_id, "").decision.is_sampled()  # type: ignore[no-untyped-call]  # as they have it
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        return SpanContext(trace_id, int(ref.span_id, 16), is_remote=True, trace_flags=flags)


def _close(spans: ExitStack, ended: object) -> None:
    error = ended if isinstance(ended, BaseException) else None
    spans.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _named(resource: Resource) -> Resource:
    """As OpenTelemetry's settings say; where they don't, by our own name."""
    name = str(resource.attributes.get(SERVICE_NAME, ""))
    return resource.merge(Resource({SERVICE_NAME: "allocation"})) if name.startswith("unknown_service") else resource


@cache
def traces() -> Traces:
    """Those of this process, sent to where OTEL_EXPORTER_OTLP_ENDPOINT says, in the background."""
    return Traces(BatchSpanProcessor(OTLPSpanExporter()))
