"""The API under /v1: products, batches, orders, events; errors are problem details (RFC 9457)."""

from __future__ import annotations

from flask import Flask

from allocation.bootstrap import Service
from allocation.entrypoints.v1 import pages, routes


def add_to(app: Flask, service: Service) -> None:
    app.register_blueprint(routes.blueprint(service))
    app.register_blueprint(pages.blueprint())
