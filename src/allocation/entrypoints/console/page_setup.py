"""What all pages of the console share: what they may load, who may keep them, how they say what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, g, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import (
    Conflict,
    HTTPException,
    InternalServerError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
)

from allocation.access.keys import Scope
from allocation.entrypoints.console.bars import bar, state_in_words
from allocation.entrypoints.console.sentences import mark_of, sentence_of
from allocation.entrypoints.console.sign_in import visitor
from allocation.entrypoints.console.visitors import keep_cookie
from allocation.service_layer.routing import PUBLISH_EVENT, SEND_OUT_OF_STOCK_NOTIFICATION
from messaging.errors import RequestInProgress, Unavailable

log = logging.getLogger(__name__)

EFFECTS = {PUBLISH_EVENT: "events to Redis", SEND_OUT_OF_STOCK_NOTIFICATION: "out-of-stock mails"}
"""What people call the effects that they know."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_LATER = (HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE)
_FOLDER = Path(__file__).parent
_A_YEAR = 365 * 24 * 3600


def add_looks(console: Blueprint) -> None:
    version = sha256(b"".join(_bytes_of(_FOLDER / "static"))).hexdigest()[:12]

    @console.context_processor
    def known_to_all_pages() -> dict[str, Any]:
        return {
            "visitor": g.get("visitor"),
            "may_operate": "visitor" in g and visitor().may(Scope.OPERATE),
            "static_url": lambda name: url_for("console.static", filename=name, v=version),
            "bar": bar,
            "state_in_words": state_in_words,
            "sentence_of": sentence_of,
            "mark_of": mark_of,
            "effect_name": lambda name: EFFECTS.get(name, name.replace("_", " ")),
        }

    @console.after_request
    def protect(response: Response) -> Response:
        response.headers.update(_HEADERS)
        if request.endpoint == "console.static":
            response.headers["Cache-Control"] = f"public, max-age={_A_YEAR}, immutable"
            return response
        response.headers["Cache-Control"] = "no-store"
        if "visitor" in g and visitor().is_new:
            keep_cookie(response, visitor(), is_secure=request.is_secure)
        return response


def _bytes_of(folder: Path) -> Iterable[bytes]:
    return (file.read_bytes() for file in sorted(folder.iterdir()))


def add_errors(console: Blueprint) -> None:
    @console.errorhandler(HTTPException)
    def refused(error: HTTPException) -> ResponseReturnValue:
        code = error.code or 500
        page = render_template("console/error.html", title=HTTPStatus(code).phrase, said=error.description)
        seconds = error.retry_after if isinstance(error, TooManyRequests) else 1 if code in _LATER else None
        return page, code, {"Retry-After": str(seconds)} if seconds else {}

    @console.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> ResponseReturnValue:
        log.warning("unavailable", extra={"error": str(error)})
        return refused(ServiceUnavailable("The service can’t answer this right now. Try again in a moment."))

    @console.errorhandler(RequestInProgress)
    def still_running(_: RequestInProgress) -> ResponseReturnValue:
        return refused(Conflict("The first request is still in progress. Try again in a moment."))

    @console.errorhandler(Exception)
    def fault(error: Exception) -> ResponseReturnValue:
        log.exception("internal error", extra={"error": repr(error)})
        return refused(InternalServerError("Internal error. The details are in the log of the service."))

    @console.route("/<any_text:_>")
    def nowhere(_: str) -> ResponseReturnValue:
        raise NotFound("The console has no such page.")
