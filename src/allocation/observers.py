"""Who looks at what a long-lived process does: numbers for Prometheus, and spans when traces are kept somewhere."""

from __future__ import annotations

import logging

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.observability.metrics import metrics
from messaging.observation import Observer, Observers

log = logging.getLogger(__name__)


def observed(settings: Settings, *, connections: int = 10, callers_wait: bool = False) -> Service:
    """The service that `bootstrap` wires, under the eyes of this process's observers."""
    service = bootstrap(settings, connections=connections, callers_wait=callers_wait, observer=observer_for(settings))
    metrics().watch_pool(service.engine, connections)
    return service


def observer_for(settings: Settings) -> Observer:
    if not settings.traces_to:
        return metrics()
    try:
        from allocation.observability.traces import traces
    except ImportError as error:
        log.warning("no traces are kept; install allocation[otel]", extra={"error": str(error)})
        return metrics()
    return Observers(metrics(), traces())
