"""The API under /v1: products, batches, orders, events; errors are problem details (RFC 9457)."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, request

from allocation.bootstrap import Service
from allocation.entrypoints.http.routes import declarations
from allocation.entrypoints.v1 import (
    allocations,
    at_risk,
    backorders,
    batches,
    dry_runs,
    events,
    holds,
    orders,
    pages,
    products,
    queries,
)


def add_to(app: Flask, service: Service) -> None:
    v1 = Blueprint("v1", __name__, url_prefix="/v1")
    declared = declarations(app).by_endpoint
    for resource in (products, batches, orders, backorders, at_risk, holds, events, allocations):
        resource.add_routes(v1, service)

    @v1.before_request
    def refuse_unknown_parameters() -> None:
        queries.refuse_unknown(queries.kind_of(declared[request.endpoint or ""]))

    @v1.before_request
    def answer_dry_runs() -> Response | None:
        route = declared[request.endpoint or ""]
        return dry_runs.answered(route, service) if dry_runs.is_asked_for(route) else None

    app.register_blueprint(v1)
    app.register_blueprint(pages.blueprint())
