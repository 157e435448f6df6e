"""The API under /v1: products, batches, orders, events; errors are problem details (RFC 9457)."""

from __future__ import annotations

from flask import Blueprint, Flask, request

from allocation.bootstrap import Service
from allocation.entrypoints.http.routes import declarations
from allocation.entrypoints.v1 import allocations, batches, events, orders, pages, products, queries


def add_to(app: Flask, service: Service) -> None:
    v1 = Blueprint("v1", __name__, url_prefix="/v1")
    for resource in (products, batches, orders, events, allocations):
        resource.add_routes(v1, service)

    @v1.before_request
    def refuse_unknown_parameters() -> None:
        queries.refuse_unknown(declarations(app).by_endpoint[request.endpoint or ""].query)

    app.register_blueprint(v1)
    app.register_blueprint(pages.blueprint())
