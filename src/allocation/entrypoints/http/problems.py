"""Errors as problem details (RFC 9457): every kind that /v1 answers with, and what it means.

A kind is known by its `type`, a path at which this service says what it means. Kinds are added, and never renamed. The
book's routes answer the same errors with a message only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from inspect import getdoc
from typing import Any
from urllib.parse import quote

from flask import Response, g, request
from pydantic_core import to_json
from werkzeug.http import HTTP_STATUS_CODES

from allocation.adapters import wire_names
from allocation.adapters.wire_names import problem_name
from allocation.domain.errors import DomainError, Kind, UnknownRefusal
from allocation.service_layer.messages import REFUSALS
from messaging.envelope import Metadata


@dataclass(frozen=True, slots=True)
class Problem:
    """`example` is a `detail` as it is answered; `meaning` says what to do. `extension` is the type of what it has
    beside what all have."""

    name: str
    status: int
    title: str
    meaning: str
    example: str
    extension: type | None = None

    @property
    def type(self) -> str:
        return wire_names.problem_type(self.name)


@dataclass(frozen=True, slots=True)
class Message:
    """How the book's routes say what is wrong."""

    message: str


@dataclass(frozen=True, slots=True)
class ProblemDetails:
    """What every problem has. `instance` names the request: its X-Request-ID."""

    type: str
    title: str
    status: int
    detail: str
    instance: str


@dataclass(frozen=True, slots=True)
class InvalidValue:
    """One value and the rule that it breaks. It stands in the body, at `pointer`, or in the query, as `parameter`."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


@dataclass(frozen=True, slots=True)
class InvalidValues:
    errors: list[InvalidValue]


@dataclass(frozen=True, slots=True)
class Shortage:
    """What was asked for, and what there is: in all batches of the SKU, and at most in one of them."""

    orderid: str
    lineid: str
    sku: str
    requested: int
    purchased: int
    allocated: int
    available: int
    largest: int
    next_eta: date | None
    held: int = 0
    dispatched: int = 0
    quarantined: int = 0


KEY_USED_BEFORE = "the Idempotency-Key was used before with another body, path or condition"
STILL_AT_WORK = "the first request with this Idempotency-Key is still at work; ask again"
NO_IF_MATCH = "send If-Match: the ETag of the batch as you have seen it, or * for whatever it is"
FAILED = "internal error"
TRY_AGAIN = "the service is unavailable; try again"

INVALID_REQUEST = Problem(
    "invalid-request",
    400,
    "Malformed request",
    "The body is not JSON, or a header is not what it should be. The same request will fail again.",
    "invalid JSON: EOF while parsing an object at line 1 column 9",
)
NO_KEY = Problem(
    "no-key",
    401,
    "Invalid or missing API key",
    "Send an API key, as `Authorization: Bearer KEY`. It was not sent, is not known, or was revoked. Where the service "
    "listens on loopback only, none is needed.",
    "an API key is required; send it as `Authorization: Bearer KEY`",
)
MISSING_SCOPE = Problem(
    "missing-scope",
    403,
    "Insufficient scope",
    "The key is valid, and lacks the scope that this route needs. A key with another scope has to be made for it.",
    "the key 'till-5' lacks the scope 'operate', which this needs; it has allocate, read",
)
NOT_FOUND = Problem(
    wire_names.NOT_FOUND,
    404,
    "Not found",
    "Nothing is known by this name. Names are told apart by every character, capitals included; what stands in a path "
    "must be percent-encoded.",
    "no batch has the reference b-17",
)
METHOD_NOT_ALLOWED = Problem(
    "method-not-allowed",
    405,
    "Method not allowed",
    "The path is right, the method is not. The Allow header lists those that are.",
    "DELETE is not allowed at /v1/batches/b-17; allowed: GET, HEAD, OPTIONS, PATCH",
)
OUT_OF_STOCK = Problem(
    "out-of-stock",
    409,
    "Out of stock",
    "The line was not allocated: no batch has room for all of it. The purchasing team has been notified. Try again "
    "when more is expected, with a new Idempotency-Key or none: to the same key this answer is replayed. `next_eta` is "
    "the next day on which something comes that is not promised yet.",
    "requested 8; purchased 10 − allocated 5 − held 0 − dispatched 2 − quarantined 0 = 3 available",
    Shortage,
)
STILL_RUNNING = Problem(
    "still-running",
    409,
    "Request in progress",
    "The first request with this Idempotency-Key is still at work. Send the same request again after the seconds in "
    "Retry-After, and get the answer of the first.",
    STILL_AT_WORK,
)
PRECONDITION_FAILED = Problem(
    wire_names.PRECONDITION_FAILED,
    412,
    "Precondition failed",
    "What is there is not what If-Match names. Get it again, decide again, and send its new ETag. Nothing has changed.",
    "Batch b-17 has changed: 20 purchased and 12 allocated now",
)
TOO_LARGE = Problem(
    "too-large",
    413,
    "Payload too large",
    "A body may have 64 KiB, that of an order or a parcel 512 KiB.",
    "the body is larger than 65536 bytes",
)
UNSUPPORTED_MEDIA_TYPE = Problem(
    "unsupported-media-type",
    415,
    "Unsupported media type",
    "Send the header `Content-Type: application/json`, and a body that is not compressed.",
    "the content type must be application/json, not 'text/plain'",
)
INVALID_VALUES = Problem(
    wire_names.INVALID_VALUES,
    422,
    "Validation failed",
    "`errors` lists the values that are missing or wrong, the first 20 of them, with the rule: in the body by a JSON "
    "Pointer, in the query by the name of the parameter. `detail` says how many more there are.",
    "qty: input should be greater than or equal to 1, not 0",
    InvalidValues,
)
IDEMPOTENCY_KEY_REUSED = Problem(
    wire_names.IDEMPOTENCY_KEY_REUSED,
    422,
    "Idempotency key reused",
    "You sent this Idempotency-Key before with another body, path or condition. A new request needs a new key.",
    KEY_USED_BEFORE,
)
PRECONDITION_REQUIRED = Problem(
    "precondition-required",
    428,
    "Precondition required",
    "A change needs an If-Match header, so that it is not based on what is no longer true: the ETag of what you have "
    "seen, or `*` for whatever is there.",
    NO_IF_MATCH,
)
TOO_MANY_REQUESTS = Problem(
    "too-many-requests",
    429,
    "Too many requests",
    "The key has exceeded its rate limit. Wait for the seconds in Retry-After, and send more slowly. Nothing was done.",
    "the key 'till-5' may send 50 requests a second; wait, and send more slowly",
)
INTERNAL_ERROR = Problem(
    wire_names.INTERNAL_ERROR,
    500,
    "Internal server error",
    "It is in the log under the request's id. Whether the request took effect is not known; sending it again with the "
    "same Idempotency-Key is safe.",
    FAILED,
)
UNAVAILABLE = Problem(
    "unavailable",
    503,
    "Service unavailable",
    "The database is unavailable, or the service is overloaded. Send the same request again after the seconds in "
    "Retry-After. A change that was not answered may have been made: send it with an Idempotency-Key, and it is safe.",
    TRY_AGAIN,
)

OF_EVERY_COMMAND = (
    INVALID_REQUEST,
    STILL_RUNNING,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    INVALID_VALUES,
    IDEMPOTENCY_KEY_REUSED,
)
OF_EVERY_ROUTE = (INTERNAL_ERROR, UNAVAILABLE)
OF_ACCESS_CONTROL = (NO_KEY, MISSING_SCOPE, TOO_MANY_REQUESTS)
"""Where API keys are required, of every route that is not open to everybody."""

_OF_KIND: Mapping[Kind, int | Problem] = {
    Kind.INVALID: 422,
    Kind.CONFLICT: 409,
    Kind.NOT_FOUND: NOT_FOUND,
    Kind.STALE: PRECONDITION_FAILED,
}
"""The status of a refusal that is a problem of its own, or the problem that it is."""


def _of_refusal(refusal: type[DomainError]) -> Problem:
    of_kind = _OF_KIND[refusal.kind]
    if isinstance(of_kind, Problem):
        return of_kind
    meaning = " ".join((getdoc(refusal) or "").split())
    return Problem(problem_name(refusal), of_kind, refusal.title, meaning, refusal.example)


OF_REFUSALS = {refusal: _of_refusal(refusal) for refusal in (*REFUSALS.values(), UnknownRefusal)}

_DECLARED = [value for value in globals().values() if isinstance(value, Problem)]
PROBLEMS = {
    problem.name: problem for problem in sorted((*_DECLARED, *OF_REFUSALS.values()), key=lambda problem: problem.status)
}
"""All of them, by name."""

_by_status = defaultdict[int, list[Problem]](list)
for _problem in PROBLEMS.values():
    _by_status[_problem.status].append(_problem)
_OF_STATUS = {status: several[0] for status, several in _by_status.items() if len(several) == 1}


def are_spoken_here() -> bool:
    """Whether who asks expects problem details."""
    return request.path == "/v1" or request.path.startswith("/v1/")


def answer(problem: Problem, detail: str, extension: Mapping[str, object] | None = None) -> Response:
    return _answer(problem.type, problem.title, problem.status, detail, extension)


def answer_by_status(status: int, detail: str) -> Response:
    """For errors that mean the same wherever they happen; one that is none of our kinds is known by its status."""
    if problem := _OF_STATUS.get(status):
        return answer(problem, detail)
    return _answer("about:blank", HTTP_STATUS_CODES.get(status, "Error"), status, detail, None)


def _answer(kind: str, title: str, status: int, detail: str, extension: Mapping[str, object] | None) -> Response:
    metadata: Metadata | None = g.get("metadata")
    instance = f"urn:request:{quote(metadata.correlation_id, safe='')}" if metadata else "about:blank"
    details: dict[str, Any] = {"type": kind, "title": title, "status": status, "detail": detail, "instance": instance}
    details |= extension or {}
    return Response(to_json(details), status, mimetype="application/problem+json")
