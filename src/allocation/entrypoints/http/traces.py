"""Spans of HTTP requests, where traces are kept."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Flask, Response, g, request

from allocation.entrypoints.http.back_pressure import PROBES
from messaging.observation import Observer


def add_traces(app: Flask, observer: Observer) -> None:
    """To be added last: what is refused before any work is begun, for too much of it, has no span."""
    if not observer.keeps_traces:
        return
    from opentelemetry.trace import StatusCode

    from allocation.observability.traces import traces

    @app.before_request
    def begin_span() -> None:
        if request.endpoint in PROBES:
            return
        rule = request.url_rule.rule if request.url_rule else ""
        g.leave_span = ExitStack()
        g.span = g.leave_span.enter_context(traces().answering(g.metadata, f"{request.method} {rule}".strip()))
        g.span.set_attributes({"http.request.method": request.method, "http.route": rule})

    @app.after_request
    def note_status(response: Response) -> Response:
        if span := g.get("span"):
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 500:
                span.set_status(StatusCode.ERROR)
        return response

    @app.teardown_request
    def end_span(_: BaseException | None) -> None:
        if leave_span := g.pop("leave_span", None):
            leave_span.close()
