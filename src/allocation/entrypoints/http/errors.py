"""What errors become: problem details under /v1, for the book's routes a status and a message."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from allocation.domain.errors import DomainError, Kind
from allocation.entrypoints.http import problems
from allocation.entrypoints.http.problems import Problem
from allocation.entrypoints.http.routes import declarations
from allocation.validation import BadInput
from messaging.errors import MessageIdReused, RequestInProgress, Unavailable

log = logging.getLogger(__name__)


class BadParameter(BadInput):
    """In the query."""


def add_errors(app: Flask) -> None:
    @app.errorhandler(BadInput)
    def bad_input(error: BadInput) -> Response:
        if not error.problems:
            return _answer(problems.INVALID_REQUEST, str(error))
        place = _in_query if isinstance(error, BadParameter) else _in_body
        errors = [{"detail": one.rule, **place(one.where)} for one in error.problems]
        return _answer(problems.INVALID_VALUES, str(error), {"errors": errors}, in_the_book=400)

    @app.errorhandler(DomainError)
    def refused(error: DomainError) -> Response:
        in_the_book = 409 if error.kind is Kind.CONFLICT else 400
        return _answer(problems.OF_REFUSALS[type(error)], str(error), error.numbers, in_the_book=in_the_book)

    @app.errorhandler(MessageIdReused)
    def reused(_: MessageIdReused) -> Response:
        return _answer(problems.IDEMPOTENCY_KEY_REUSED, problems.KEY_USED_BEFORE)

    @app.errorhandler(RequestInProgress)
    def still_running(_: RequestInProgress) -> Response:
        return _later(_answer(problems.STILL_RUNNING, problems.STILL_AT_WORK))

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> Response:
        log.warning("unavailable", extra={"error": str(error)})
        return _later(_answer(problems.UNAVAILABLE, problems.TRY_AGAIN))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status, detail = error.code or 500, _detail_of(error)
        answer = problems.answer_by_status(status, detail) if problems.are_spoken_here() else _message(detail, status)
        answer.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
        return answer

    @app.errorhandler(Exception)
    def internal_error(error: Exception) -> Response:
        log.exception("internal error", extra={"error": repr(error)})
        return _answer(problems.INTERNAL_ERROR, problems.FAILED)


def _answer(
    problem: Problem, detail: str, extension: Mapping[str, object] | None = None, *, in_the_book: int | None = None
) -> Response:
    if problems.are_spoken_here():
        return problems.answer(problem, detail, extension)
    return _message(detail, in_the_book or problem.status)


def _message(message: str, status: int) -> Response:
    return Response(json.dumps({"message": message}), status, mimetype="application/json")


def _later(answer: Response) -> Response:
    answer.headers["Retry-After"] = "1"
    return answer


def _detail_of(error: HTTPException) -> str:
    """In our words where werkzeug's do not name it."""
    if isinstance(error, RequestEntityTooLarge):
        return f"the body is larger than {declarations(current_app).largest_body(request.endpoint)} bytes"
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        return f"{request.method} is not allowed at {request.path}; allowed: {', '.join(sorted(error.valid_methods))}"
    if error.description == NotFound.description:
        return f"there is nothing at {request.path}; /docs shows what there is"
    return error.description or ""


def _in_query(where: Sequence[str | int]) -> dict[str, str]:
    return {"parameter": "/".join(map(str, where))}


def _in_body(where: Sequence[str | int]) -> dict[str, str]:
    """A JSON Pointer (RFC 6901) as a part of a URI."""
    escaped = (str(step).replace("~", "~0").replace("/", "~1") for step in where)
    return {"pointer": "#" + "".join(f"/{quote(step, safe='~')}" for step in escaped)}
