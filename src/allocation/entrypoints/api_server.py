"""Serves the API: puts together what each process of the server runs."""

from __future__ import annotations

from functools import partial

from allocation.bootstrap import Service
from allocation.config import Settings
from allocation.entrypoints import console
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http import server
from allocation.entrypoints.http.access import access_policy
from allocation.entrypoints.http.bridge import Bridge
from allocation.entrypoints.http.routes import declarations
from allocation.entrypoints.http.traces import add_traces
from allocation.entrypoints.memory import settle_memory
from allocation.observability.logs import configure_logging
from allocation.observers import observed

CONNECTIONS = 12
"""To the database, in each process at most: for one transaction of many commands at a time, some that wait for a lock
or move many lines, and readers. Threads mostly wait for the first."""


def serve(settings: Settings, threads: int) -> None:
    """Until SIGTERM or SIGINT."""
    server.serve(settings, threads, partial(load, settings, threads))


def load(settings: Settings, threads: int) -> Bridge:
    """Called in each process: nothing with a connection is shared between them."""
    configure_logging(settings.log_level, settings.log_format)
    service = observed(settings, connections=min(threads, CONNECTIONS), callers_wait=True)
    app = create_app(service, access_policy(settings, service.keys))
    add_traces(app, service.bus.observer)
    console.limit_streams(app, threads // 4)
    settle_memory()
    return Bridge(
        app,
        threads,
        declarations(app).largest_body(),
        is_trusted_proxy=settings.trusts_proxy,
        end_streams=partial(console.end_streams, app),
        close=partial(_send_traces, service),
    )


def _send_traces(service: Service) -> None:
    """Those that were not sent yet: a process that another has forked ends without what `atexit` would do."""
    if service.bus.observer.keeps_traces:
        from allocation.observability.traces import traces

        traces().provider.shutdown()
