"""Errors as problem details (RFC 9457): every kind that /v1 answers with, and what it means.

A kind is known by its `type`, a path at which this service says what it means. Kinds are added, and never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from inspect import getdoc
from typing import Any
from urllib.parse import quote

from flask import Response, g, request
from pydantic_core import to_json
from werkzeug.http import HTTP_STATUS_CODES

from allocation.domain.errors import DomainError, Kind, UnknownRefusal
from allocation.service_layer.messages import REFUSALS
from allocation.service_layer.messages.table import CommandRow
from messaging.envelope import Metadata


@dataclass(frozen=True, slots=True)
class Problem:
    """`example` is a `detail` as it is answered; `meaning` says what to do."""

    name: str
    status: int
    title: str
    meaning: str
    example: str

    @property
    def type(self) -> str:
        return f"/problems/{self.name}"


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


KEY_USED_BEFORE = "the Idempotency-Key was used before with another body"
STILL_AT_WORK = "the first request with this Idempotency-Key is still at work; ask again"
SAY_WHAT_YOU_HAVE_SEEN = "send If-Match: the ETag of the batch as you have seen it, or * for whatever it is"
A_FAULT = "internal error"
NOT_RIGHT_NOW = "the service can't do this right now; try again"

INVALID_REQUEST = Problem(
    "invalid-request",
    400,
    "The request can't be read",
    "The body is not JSON, or a header is not what it should be. The same request will fail again.",
    "invalid JSON: EOF while parsing an object at line 1 column 9",
)
NO_KEY = Problem(
    "no-key",
    401,
    "Nobody knows who asks",
    "Send an API key, as `Authorization: Bearer KEY`. It was not sent, is not known, or was revoked. Where the service "
    "listens on loopback only, none is asked for.",
    "this needs an API key; send it as `Authorization: Bearer KEY`",
)
MISSING_SCOPE = Problem(
    "missing-scope",
    403,
    "The key may not do this",
    "The key is good, and lacks the scope that this needs. A key with another scope has to be made for it.",
    "the key 'till-5' has not the scope 'operate', which this needs; it has allocate, read",
)
NOT_FOUND = Problem(
    "not-found",
    404,
    "There is no such thing",
    "Nothing is known by this name. Names are told apart by every character, capitals included; what stands in a path "
    "must be percent-encoded.",
    "no batch has the reference b-17",
)
METHOD_NOT_ALLOWED = Problem(
    "method-not-allowed",
    405,
    "That can't be done here",
    "The path is right, the method is not. The Allow header lists those that are.",
    "DELETE is not allowed at /v1/batches/b-17; allowed: GET, HEAD, OPTIONS, PATCH",
)
OUT_OF_STOCK = Problem(
    "out-of-stock",
    409,
    "No batch has room for the line",
    "The line was not allocated; a line goes whole to one batch, or to none. Those who buy have been told. Ask again "
    "when more is expected, with a new Idempotency-Key or none: to the same key this answer stands. `next_eta` is the "
    "next day on which something comes that is not promised yet.",
    "requested 8; purchased 10 − allocated 7 = 3 available",
)
STILL_RUNNING = Problem(
    "still-running",
    409,
    "The first request with this key is still at work",
    "Send the same request again after the seconds in Retry-After, and get the answer of the first.",
    STILL_AT_WORK,
)
PRECONDITION_FAILED = Problem(
    "precondition-failed",
    412,
    "It has changed meanwhile",
    "What is there is not what If-Match names. Get it again, decide again, and send its new ETag. Nothing has changed.",
    "Batch b-17 has changed: 20 purchased and 12 allocated now",
)
TOO_LARGE = Problem(
    "too-large",
    413,
    "The body is too large",
    "A body may have 64 KiB.",
    "the body is larger than 65536 bytes",
)
UNSUPPORTED_MEDIA_TYPE = Problem(
    "unsupported-media-type",
    415,
    "The content type is not JSON",
    "Send the header `Content-Type: application/json`.",
    "the content type must be application/json, not 'text/plain'",
)
INVALID_VALUES = Problem(
    "invalid-values",
    422,
    "A value breaks a rule",
    "`errors` lists every value that is missing or wrong, with the rule: in the body by a JSON Pointer, in the query "
    "by the name of the parameter.",
    "qty: input should be greater than or equal to 1, not 0",
)
IDEMPOTENCY_KEY_REUSED = Problem(
    "idempotency-key-reused",
    422,
    "The key belongs to another request",
    "You sent this Idempotency-Key before with another body. A new request needs a new key.",
    KEY_USED_BEFORE,
)
PRECONDITION_REQUIRED = Problem(
    "precondition-required",
    428,
    "Say what you have seen",
    "A change needs an If-Match header, so that it is not made on the ground of what is no longer so: the ETag of what "
    "you have seen, or `*` for whatever is there.",
    SAY_WHAT_YOU_HAVE_SEEN,
)
TOO_MANY_REQUESTS = Problem(
    "too-many-requests",
    429,
    "More requests than the key may send",
    "Wait for the seconds in Retry-After, and send more slowly. Nothing was done.",
    "the key 'till-5' may send 50 requests a second; wait, and send more slowly",
)
INTERNAL_ERROR = Problem(
    "internal-error",
    500,
    "A fault in the program",
    "It is in the log under the request's id. Whether the request took effect is not known; sending it again with the "
    "same Idempotency-Key is safe.",
    A_FAULT,
)
UNAVAILABLE = Problem(
    "unavailable",
    503,
    "Not right now",
    "The database is away, or there is more to do than can be done. Send the same request again after the seconds in "
    "Retry-After. A change that was not answered may have been made: send it with an Idempotency-Key, and it is safe.",
    NOT_RIGHT_NOW,
)

_STATUS = {Kind.INVALID: 422, Kind.CONFLICT: 409}
_RENAMED = {"invalid_sku": "unknown-sku"}  # published before refusals had codes


def _of_refusal(refusal: type[DomainError]) -> Problem:
    if refusal.kind is Kind.NOT_FOUND:
        return NOT_FOUND
    if refusal.kind is Kind.STALE:
        return PRECONDITION_FAILED
    name = _RENAMED.get(refusal.code, refusal.code.replace("_", "-"))
    meaning = " ".join((getdoc(refusal) or "").split())
    return Problem(name, _STATUS[refusal.kind], refusal.title, meaning, refusal.example)


OF_REFUSALS = {refusal: _of_refusal(refusal) for refusal in (*REFUSALS.values(), UnknownRefusal)}


def of_command(row: CommandRow[Any]) -> list[Problem]:
    """Those of its refusals."""
    return [OF_REFUSALS[refusal] for refusal in row.refuses]


PROBLEMS = tuple(
    dict.fromkeys(
        (
            INVALID_REQUEST,
            NO_KEY,
            MISSING_SCOPE,
            NOT_FOUND,
            METHOD_NOT_ALLOWED,
            OUT_OF_STOCK,
            STILL_RUNNING,
            PRECONDITION_FAILED,
            TOO_LARGE,
            UNSUPPORTED_MEDIA_TYPE,
            INVALID_VALUES,
            *OF_REFUSALS.values(),
            IDEMPOTENCY_KEY_REUSED,
            PRECONDITION_REQUIRED,
            TOO_MANY_REQUESTS,
            INTERNAL_ERROR,
            UNAVAILABLE,
        )
    )
)

AT_THE_DOOR = (NO_KEY, MISSING_SCOPE, TOO_MANY_REQUESTS)
"""Where keys are asked for, by any route that is not open to everybody."""

EXTENSIONS: dict[Problem, type] = {INVALID_VALUES: InvalidValues, OUT_OF_STOCK: Shortage}
"""What some have beside what all have."""

_OF_STATUS = {
    problem.status: problem
    for problem in (
        NO_KEY,
        MISSING_SCOPE,
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        TOO_LARGE,
        UNSUPPORTED_MEDIA_TYPE,
        TOO_MANY_REQUESTS,
        INTERNAL_ERROR,
        UNAVAILABLE,
    )
}


def are_spoken_here() -> bool:
    """Whether who asks expects problem details."""
    return request.path == "/v1" or request.path.startswith("/v1/")


def answer(problem: Problem, detail: str, extension: Mapping[str, object] | None = None) -> Response:
    """`extension` is what this kind has beside what all have: see EXTENSIONS."""
    return _answer(problem.type, problem.title, problem.status, detail, extension)


def answer_by_status(status: int, detail: str) -> Response:
    """For errors that mean the same wherever they happen; one that is none of our kinds is known by its status."""
    problem = _OF_STATUS.get(status)
    if problem:
        return answer(problem, detail)
    return _answer("about:blank", HTTP_STATUS_CODES.get(status, "Error"), status, detail, None)


def _answer(kind: str, title: str, status: int, detail: str, extension: Mapping[str, object] | None) -> Response:
    metadata: Metadata | None = g.get("metadata")
    instance = f"urn:request:{quote(metadata.correlation_id, safe='')}" if metadata else "about:blank"
    details: dict[str, Any] = {"type": kind, "title": title, "status": status, "detail": detail, "instance": instance}
    details |= extension or {}
    return Response(to_json(details), status, mimetype="application/problem+json")
