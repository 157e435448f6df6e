"""ETags: whoever has an answer already need not get it again, and whoever changes a batch says what they have seen.

An ETag of a batch is made of all that ever changes in it, its quantities. So a batch can be compared with it where it
is changed, inside the transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

from flask import Response, request
from pydantic_core import to_json

from allocation.entrypoints.v1 import problems
from allocation.views import Batch

_ETAG = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class ConditionMissing(Exception):
    """A change that must say what its caller has seen, and does not."""


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """As JSON. What can be asked for again has an ETag, and a reader who has it already is told so (304)."""
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


def etag_of(batch: Batch) -> str:
    return f"{batch.qty}-{batch.allocated}"


def seen() -> tuple[tuple[int, int], ...] | None:
    """The quantities of a batch that If-Match names, any of which will do; None: whatever they are.

    Raises ConditionMissing.
    """
    if not request.if_match:
        raise ConditionMissing(problems.PRECONDITION_REQUIRED.example)
    if request.if_match.star_tag:
        return None
    named = (_ETAG.fullmatch(etag) for etag in request.if_match.as_set())
    return tuple(sorted((int(found[1]), int(found[2])) for found in named if found))
