"""How the routes under /v1 answer: as JSON, with an ETag on what can be asked for again."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TypeVar

from flask import Response, request
from pydantic_core import to_json
from werkzeug.exceptions import NotFound

from allocation.entrypoints.http.conditions import etag_of
from allocation.views import Batch

F = TypeVar("F")

REPLAYED = "this is the first answer to this Idempotency-Key again, and stands: to try anew send another key, or none"


def found_or_404(what: F | None, otherwise: str) -> F:
    if what is None:
        raise NotFound(otherwise)
    return what


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """As JSON. What can be asked for again has an ETag, and a reader who has it already gets a 304."""
    body = to_json(value)
    response = Response(body, status, dict(headers or {}), mimetype="application/json")
    if isinstance(value, Batch):
        response.set_etag(etag_of(value))
    if request.method in ("GET", "HEAD"):
        etag = etag_of(value) if isinstance(value, Batch) else sha256(body).hexdigest()[:32]
        response.set_etag(etag)
        response.headers["Cache-Control"] = "no-cache"  # may be kept, and must be asked for again
        if request.if_none_match.contains_weak(etag):
            response.status_code = 304
            response.set_data(b"")
            response.headers.pop("Content-Type")
    return response
