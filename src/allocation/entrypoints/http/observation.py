"""What is seen of HTTP: requests counted, timed, and logged under their id; and `GET /metrics`."""

from __future__ import annotations

import logging
import time
from functools import cache
from importlib.metadata import version
from typing import TypeVar

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.entrypoints.http.back_pressure import WAITED
from allocation.entrypoints.http.routes import Answer, Route
from allocation.observability.metrics import Metrics, of_all_processes
from allocation.observability.metrics import metrics as of_this_process
from allocation.observability.server_metrics import BackingServicesCollector, CachedProbe, Probe
from messaging.correlation import WORKING_ON
from messaging.trace_context import sent_in

P = TypeVar("P")

log = logging.getLogger(__name__)

SLOW = 1.0
"""Seconds. What takes so long to answer has a line in the log, and what fails has one already; all else at DEBUG."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def add_observation(app: Flask, service: Service) -> None:
    """To be added after what gives each request its id, and before all that may answer it."""
    own = of_this_process()
    _add_numbers(app, own)
    _add_metrics(app, service, own)


def _add_numbers(app: Flask, metrics: Metrics) -> None:
    """On the hot path: so each of Flask's proxies is asked as few times as can be."""
    every_request_is_logged = log.isEnabledFor(logging.DEBUG)

    @app.before_request
    def begin() -> None:
        of_request = _behind(g)
        of_request.begun = time.perf_counter()
        if traceparent := _behind(request).environ.get("HTTP_TRACEPARENT"):
            of_request.metadata = sent_in(of_request.metadata, traceparent)
        WORKING_ON.set(of_request.metadata.correlation_id)

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.perf_counter() - _behind(g).begun
        current = _behind(request)
        environ, rule, status = current.environ, current.url_rule, response.status_code
        method = current.method if current.method in _METHODS else "other"
        metrics.answered(method, rule.rule if rule else "none", status, seconds, environ.get(WAITED, 0.0))
        slow = seconds >= SLOW
        if slow or every_request_is_logged:
            about = {"method": method, "path": current.path, "status": status, "seconds": round(seconds, 4)}
            log.log(logging.WARNING if slow else logging.DEBUG, "slow" if slow else "answered", extra=about)
        WORKING_ON.set("")  # the thread goes on to somebody else's
        return response


def _behind(proxy: P) -> P:
    return proxy._get_current_object()  # type: ignore[attr-defined, no-any-return]  # Flask types it as what is behind


def _add_metrics(app: Flask, service: Service, own: Metrics) -> None:
    @cache
    def backing_services() -> BackingServicesCollector:
        views = service.views
        look = Probe(service.waiting, service.command_group.lag, views.waiting_lines, views.due_dates)
        return BackingServicesCollector(CachedProbe(look), version("allocation"))

    @Route(app, "GET", "/metrics", Scope.READ, {200: Answer("The metrics.", "# HELP ...")}, tag="health")
    def metrics() -> ResponseReturnValue:
        """Metrics. Of all processes, in the text format of Prometheus."""
        registry = CollectorRegistry()
        registry.register(of_all_processes(own))
        registry.register(backing_services())
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
