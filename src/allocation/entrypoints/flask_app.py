"""The HTTP API."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, g, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from allocation import validation
from allocation.bootstrap import Service
from allocation.domain.errors import DomainError, Kind
from allocation.entrypoints import console, v1
from allocation.entrypoints.http.back_pressure import add_back_pressure
from allocation.entrypoints.http.doors import Doors, add_doors
from allocation.entrypoints.http.input import LARGEST_BODY, AnyText, body, message_id
from allocation.entrypoints.http.observation import add_observation
from allocation.entrypoints.v1 import problems
from allocation.validation import BadInput
from messaging.envelope import Metadata, usable_id
from messaging.errors import MessageIdReused, StillRunning, Unavailable

log = logging.getLogger(__name__)


class _App(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Nothing of ours is async, and to look at each of seven functions for each request is a hundredth of it."""
        return func


def create_app(service: Service, doors: Doors) -> Flask:
    """The WSGI application."""
    app = _App(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY + 1  # by one byte it is known for too large
    app.url_map.merge_slashes = False
    app.url_map.converters["any_text"] = AnyText
    _add_routes(app, service, doors)
    v1.add_to(app, service)
    console.add_to(app, service, doors)
    _add_errors(app)
    _add_request_ids(app)
    add_observation(app, service)
    _add_path_check(app)
    add_back_pressure(app)
    add_doors(app, doors)
    return app


def _add_routes(app: Flask, service: Service, doors: Doors) -> None:
    bus = service.bus

    @app.post("/add_batch")
    def add_batch() -> ResponseReturnValue:
        bus.handle(body(validation.CREATE_BATCH), g.metadata, message_id())
        return _text("OK", 201)

    @app.post("/allocate")
    def allocate() -> ResponseReturnValue:
        command = body(validation.ALLOCATE)
        batchref = bus.handle(command, g.metadata, message_id())
        if _asks_for_json():
            outcome = "allocated" if batchref else "out of stock"
            return jsonify(outcome=outcome, batchref=batchref, orderid=command.orderid, sku=command.sku), 202
        return _text("OK", 202)

    @app.get("/allocations/<any_text:orderid>")
    def allocations(orderid: str) -> ResponseReturnValue:
        if "\0" not in orderid and (found := service.views.allocations(orderid)):  # which no text in the database has
            return jsonify(found)
        return _text("not found", 404)

    @app.get("/")
    def home() -> ResponseReturnValue:
        """The address that people are given first: browsers go on to the console, programs learn where to."""
        if request.accept_mimetypes.best_match(("application/json", "text/html")) == "text/html":
            answer = redirect(url_for("console.stock"))
        else:
            public = {"console": "console.stock", "docs": "about.docs", "openapi": "about.openapi", "readyz": "readyz"}
            answer = jsonify({name: url_for(endpoint) for name, endpoint in public.items()})
        answer.vary.add("Accept")
        return answer

    @app.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return jsonify(status="alive")

    @app.get("/readyz")
    def readyz() -> ResponseReturnValue:
        readiness = service.readiness()
        return jsonify(doors.told_to_strangers(readiness)), 200 if readiness["status"] != "not ready" else 503


def _add_errors(app: Flask) -> None:
    @app.errorhandler(BadInput)
    def bad_input(error: BadInput) -> ResponseReturnValue:
        return _refusal(str(error), 400)

    @app.errorhandler(DomainError)
    def refused(error: DomainError) -> ResponseReturnValue:
        return _refusal(str(error), 409 if error.kind is Kind.CONFLICT else 400)

    @app.errorhandler(MessageIdReused)
    def reused(_: MessageIdReused) -> ResponseReturnValue:
        return _refusal(problems.KEY_USED_BEFORE, 422)

    @app.errorhandler(StillRunning)
    def still_running(_: StillRunning) -> ResponseReturnValue:
        return _later(problems.STILL_AT_WORK, 409)

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> ResponseReturnValue:
        log.warning("unavailable", extra={"error": str(error)})
        return _later(problems.NOT_RIGHT_NOW, 503)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> ResponseReturnValue:
        answer = _refusal(_said(error), error.code or 500)
        further = ((name, value) for name, value in error.get_headers() if name != "Content-Type")  # such as Allow
        answer.headers.extend(further)
        return answer

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(_: RequestEntityTooLarge) -> ResponseReturnValue:
        return _refusal(f"the body is larger than {LARGEST_BODY} bytes", 413)

    @app.errorhandler(Exception)
    def fault(error: Exception) -> ResponseReturnValue:
        log.exception("a fault in the program", extra={"error": repr(error)})
        return _refusal(problems.A_FAULT, 500)


def _add_path_check(app: Flask) -> None:
    @app.before_request
    def refuse_slashes_in_front() -> None:
        """Which werkzeug takes for one."""
        if request.environ["PATH_INFO"].startswith("//"):
            raise NotFound


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


def _said(error: HTTPException) -> str:
    """What is wrong, in our words where werkzeug's do not name it."""
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        return f"{request.method} is not allowed at {request.path}; allowed: {', '.join(sorted(error.valid_methods))}"
    if error.description == NotFound.description:
        return f"there is nothing at {request.path}; /docs shows what there is"
    return error.description or ""


def _asks_for_json() -> bool:
    return any(mimetype == "application/json" for mimetype, _ in request.accept_mimetypes)


def _text(body: str, status: int) -> Response:
    return Response(body, status, mimetype="text/plain")


def _later(message: str, status: int) -> Response:
    answer = _refusal(message, status)
    answer.headers["Retry-After"] = "1"
    return answer


def _refusal(message: str, status: int) -> Response:
    if problems.are_spoken_here():
        return problems.answer_by_status(status, message)
    return Response(json.dumps({"message": message}), status, mimetype="application/json")
