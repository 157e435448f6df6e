"""Sheds load: a request that has waited too long is refused, so that those after it need not wait longer."""

from __future__ import annotations

import logging

from flask import Flask, request
from werkzeug.exceptions import ServiceUnavailable

from allocation.access.rates import Rates
from allocation.observability.metrics import metrics

log = logging.getLogger(__name__)

WAITED = "allocation.waited"
"""The key in the WSGI environment for how many seconds a request has waited for a thread."""

LONGEST_WAIT = 1.0
"""Seconds."""

PROBES = ("healthz", "readyz", "metrics")
"""Endpoints for those who watch the service, every few seconds: always answered, and never traced."""


def add_back_pressure(app: Flask) -> None:
    logged = Rates()  # once a second, however many come
    counted = metrics()

    @app.before_request
    def refuse_who_has_waited_too_long() -> None:
        waited = request.environ.get(WAITED, 0.0)
        if waited <= LONGEST_WAIT or request.endpoint in PROBES:
            return
        counted.shed()
        if not logged.wait("crowded", per_second=1):
            log.warning("more requests than can be answered in time", extra={"waited": round(waited, 3)})
        raise ServiceUnavailable("the service is overloaded; try again", retry_after=1)
