"""The HTTP API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Flask, Response, g, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest, NotFound

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.commands import Allocate, CreateBatch
from allocation.domain.names import normal
from allocation.entrypoints import console, v1
from allocation.entrypoints.http.access import AccessPolicy, add_access_control
from allocation.entrypoints.http.back_pressure import add_back_pressure
from allocation.entrypoints.http.errors import add_errors
from allocation.entrypoints.http.input import AnyText
from allocation.entrypoints.http.observation import add_observation
from allocation.entrypoints.http.problems import Message
from allocation.entrypoints.http.routes import PUBLIC, Answer, Route, declarations
from allocation.service_layer.messages import ordering, stock
from messaging.envelope import Metadata, usable_id


class _App(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Nothing of ours is async, and to look at each of seven functions for each request is a hundredth of it."""
        return func


def create_app(service: Service, policy: AccessPolicy) -> Flask:
    """The WSGI application."""
    app = _App(__name__, static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.converters["any_text"] = AnyText
    _add_routes_of_the_book(app, service)
    _add_health(app, service, policy)
    v1.add_to(app, service)
    console.add_to(app, service, policy)
    app.config["MAX_CONTENT_LENGTH"] = declarations(app).largest_body() + 1  # by one byte it is known for too large
    add_errors(app)
    _add_request_ids(app)
    add_observation(app, service)
    _add_path_check(app)
    add_back_pressure(app)
    add_access_control(app, policy)
    return app


# --- the book's routes ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SkuAndBatch:
    sku: str
    batchref: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcome` is allocated or out of stock, and then `batchref` is null."""

    outcome: str
    batchref: str | None
    orderid: str
    sku: str


_BOOK = "the book's"
_CREATED = Answer("Created.", "OK")
_DECIDED = Answer("Allocated, or out of stock.", Outcome("allocated", "batch-1", "order-1", "RED-CHAIR"), or_text="OK")
_LINES = Answer("The lines.", [SkuAndBatch("RED-CHAIR", "batch-1")], kind=list[SkuAndBatch])
_NO_LINES = Answer("None is allocated.", "not found")
_REFUSED = {status: Answer("Refused.", Message("qty: is missing")) for status in (400, 409, 413, 415, 422)}


def _add_routes_of_the_book(app: Flask, service: Service) -> None:
    bus = service.bus

    @Route(
        app,
        "POST",
        "/add_batch",
        Scope.OPERATE,
        {201: _CREATED, **_REFUSED},
        takes=stock.CREATE_BATCH,
        ignores=["expires", "location"],
        tag=_BOOK,
    )
    def add_batch(command: CreateBatch, message_id: str | None) -> ResponseReturnValue:
        """Create a batch, as in the book. The identical batch again changes nothing."""
        bus.handle(command, g.metadata, message_id)
        return _text("OK", 201)

    @Route(app, "POST", "/allocate", Scope.ALLOCATE, {202: _DECIDED, **_REFUSED}, takes=ordering.ALLOCATE, tag=_BOOK)
    def allocate(command: Allocate, message_id: str | None) -> ResponseReturnValue:
        """Allocate an order line, as in the book. The outcome is in the body for who accepts application/json."""
        batchref = bus.handle(command, g.metadata, message_id)
        if any(kind.lower() == "application/json" and quality for kind, quality in request.accept_mimetypes):
            outcome = "allocated" if batchref else "out of stock"
            return jsonify(outcome=outcome, batchref=batchref, orderid=command.orderid, sku=command.sku), 202
        return _text("OK", 202)

    @Route(app, "GET", "/allocations/<any_text:orderid>", Scope.READ, {200: _LINES, 404: _NO_LINES}, tag=_BOOK)
    def allocations(orderid: str) -> ResponseReturnValue:
        """List the allocated lines of an order, as in the book. In the order of allocation."""
        if "\0" in orderid:  # which no text in the database has
            return _text("not found", 404)
        found = service.views.allocations(normal(orderid))
        return jsonify(found) if found else _text("not found", 404)


def _text(body: str, status: int) -> Response:
    return Response(body, status, mimetype="text/plain")


# --- health -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Health:
    status: str
    database: str | None = None
    redis: str | None = None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where people and programs begin."""

    console: str
    docs: str
    openapi: str
    readyz: str


_ADDRESSES = Answer("The addresses.", Addresses("/console", "/docs", "/openapi.json", "/readyz"))
_ALIVE = Answer("Alive.", Health("alive"))
_READY = Answer("Ready.", Health("ready", "ok", "ok"))
_NOT_READY = Answer("Not ready, with the reason.", Health("not ready", "no answer within a second", "ok"))


def _add_health(app: Flask, service: Service, policy: AccessPolicy) -> None:
    @Route(app, "GET", "/", PUBLIC, {200: _ADDRESSES}, tag="health")
    def home() -> ResponseReturnValue:
        """Index. Browsers, which ask for text/html, are redirected to the console."""
        if request.accept_mimetypes.best_match(("application/json", "text/html")) == "text/html":
            answer = redirect(url_for("console.stock"))
        else:
            public = {"console": "console.stock", "docs": "about.docs", "openapi": "about.openapi", "readyz": "readyz"}
            answer = jsonify({name: url_for(endpoint) for name, endpoint in public.items()})
        answer.vary.add("Accept")
        return answer

    @Route(app, "GET", "/healthz", PUBLIC, {200: _ALIVE}, tag="health")
    def healthz() -> ResponseReturnValue:
        """Liveness. Depends on nothing else."""
        return jsonify(status="alive")

    @Route(app, "GET", "/readyz", PUBLIC, {200: _READY, 503: _NOT_READY}, tag="health")
    def readyz() -> ResponseReturnValue:
        """Readiness. Whether the database answers and has the schema that is needed. Without Redis the service is
        degraded, and works."""
        readiness = service.readiness()
        return jsonify(policy.public_view(readiness)), 200 if readiness["status"] != "not ready" else 503


# --- what all of them need --------------------------------------------------------


def _add_path_check(app: Flask) -> None:
    @app.before_request
    def refuse_what_is_read_as_another() -> None:
        """Slashes in front, which werkzeug takes for one, and bytes that are no text."""
        if request.environ["PATH_INFO"].startswith("//"):
            raise NotFound
        try:
            unquote_to_bytes(request.query_string).decode()
        except UnicodeDecodeError:
            raise BadRequest("the query must be in UTF-8; what it has behind % is not") from None


def _add_request_ids(app: Flask) -> None:
    """One id for all that follows from a request; a caller may bring its own as `X-Request-ID`."""

    @app.before_request
    def take_request_id() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.metadata = Metadata.first("http", correlation_id=given if usable_id(given) else None)

    @app.after_request
    def give_request_id(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.metadata.correlation_id
        return response
