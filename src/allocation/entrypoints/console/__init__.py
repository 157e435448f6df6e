"""The console: a page for people, at /console. Rendered here, with a little script for what happens meanwhile."""

from __future__ import annotations

from flask import Flask

from allocation.bootstrap import Service
from allocation.entrypoints.console.feed import Streams
from allocation.entrypoints.console.pages import blueprint
from allocation.entrypoints.console.visitors import Visitors
from allocation.entrypoints.http.access import AccessPolicy

_STREAMS = "console.streams"


def add_to(app: Flask, service: Service, policy: AccessPolicy) -> None:
    streams = app.extensions[_STREAMS] = Streams()
    app.register_blueprint(blueprint(service, Visitors(policy, service), streams))


def limit_streams(app: Flask, most: int) -> None:
    """Fewer than usual, where there are few threads to hold."""
    app.extensions[_STREAMS].allow(most)


def end_streams(app: Flask) -> None:
    """The process is about to end, and waits for nobody who only looks."""
    app.extensions[_STREAMS].end()
