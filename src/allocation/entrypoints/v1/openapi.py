"""The OpenAPI document: paths and methods from the application's routes, shapes from the types that validate."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, TypeAlias

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python
from werkzeug.routing import Map, Rule

from allocation.adapters.keys import Scope
from allocation.entrypoints.http.doors import scope_for
from allocation.entrypoints.v1 import problems
from allocation.entrypoints.v1.operations import ANYWHERE, OPERATIONS, Answer, Operation
from allocation.entrypoints.v1.problems import Problem, ProblemDetails
from allocation.validation import Text
from messaging.envelope import LONGEST_TEXT

Json: TypeAlias = dict[str, Any]

_REF = "#/components/schemas/{model}"
_IN_PATH = re.compile(r"<(?:\w+:)?(\w+)>")

_ABOUT = """
Promises order lines from batches of purchased stock: from the warehouse first, then by the earliest delivery.

Errors under `/v1` are problem details (RFC 9457). A request with an `Idempotency-Key` may be sent again and changes
nothing more. Lists have pages: `next` is the cursor of the next one, and the `Link` header its address.

Where the service is reached from elsewhere it asks for an API key, `Authorization: Bearer KEY`; on loopback it does
not.
"""

_KEY: Json = {"type": "http", "scheme": "bearer", "description": "An API key: `allocation keys create`."}

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes the request safe to repeat for 24 hours: the same again gets the first outcome. Optional. It "
    "belongs to the API key that it comes with, where one is asked for: others may send the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}
_IF_MATCH: Json = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The ETag of the batch as you have seen it, or `*` for whatever it is.",
    "schema": {"type": "string", "minLength": 1, "pattern": r'^(\*|"[0-9]{1,10}-[0-9]{1,10}")$'},
    "example": '"100-0"',
}
_IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of what you have already: if it is still so, the answer is 304 and has no body.",
    "schema": {"type": "string"},
}
_RETRY_AFTER: Json = {"description": "Seconds.", "schema": {"type": "integer"}}


def document(routes: Map) -> Json:
    """Of all routes that OPERATIONS knows, in its order."""
    paths: defaultdict[str, Json] = defaultdict(dict)
    for endpoint, operation in OPERATIONS.items():
        for rule in routes.iter_rules(endpoint):
            path = _IN_PATH.sub(r"{\1}", rule.rule)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                paths[path][method.lower()] = _operation(rule, operation, scope_for(method, rule.rule))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Allocation",
            "version": version("allocation"),
            "description": _ABOUT.strip(),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "v1", "description": "Products, batches, orders, events."},
            {"name": "the book's", "description": "The routes of the book's chapter 13, for callers who know them."},
            {"name": "health"},
        ],
        "paths": dict(paths),
        "components": {"schemas": _components(), "securitySchemes": {"key": _KEY}},
        "security": [{}, {"key": []}],
    }


def _operation(rule: Rule, operation: Operation, scope: Scope | None) -> Json:
    needs = f"Where keys are asked for it needs the scope `{scope}`." if scope else "It is open to everybody."
    described: Json = {
        "operationId": f"book_{rule.endpoint}" if operation.tag == "the book's" else rule.endpoint.removeprefix("v1."),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"{operation.description} {needs}".strip(),
    }
    if not scope:
        described["security"] = []
    if parameters := list(_parameters(rule, operation)):
        described["parameters"] = parameters
    if body := operation.body:
        schema = body.schema.json_schema(body.known)
        content = {"application/json": {"schema": schema, "example": dict(body.example)}}
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = dict(sorted((*_responses(operation), *(_at_the_door(operation) if scope else ()))))
    return described


def _parameters(rule: Rule, operation: Operation) -> Iterator[Json]:
    for name in _IN_PATH.findall(rule.rule):
        yield {"name": name, "in": "path", "required": True, "schema": TypeAdapter(Text).json_schema()}
    if operation.query:
        asked = operation.query.model_json_schema()
        for name, schema in asked["properties"].items():
            is_required = {"required": True} if name in asked.get("required", ()) else {}
            yield {"name": name, "in": "query", **is_required, **_without_null(schema)}
    if operation.body:
        yield _IDEMPOTENCY_KEY
    if operation.if_match:
        yield _IF_MATCH
    if operation.tag == "v1" and not operation.body:
        yield _IF_NONE_MATCH


def _without_null(schema: Json) -> Json:
    """A parameter is there or not; null it can't be."""
    (said,) = [one for one in schema.pop("anyOf", [schema]) if one.get("type") != "null"]
    description = said.pop("description", schema.get("description"))
    default = {"default": schema["default"]} if schema.get("default") is not None else {}
    said = {name: value for name, value in said.items() if name not in ("title", "default")}
    return {"schema": {**said, **default}} | ({"description": description} if description else {})


def _responses(operation: Operation) -> Iterator[tuple[str, Json]]:
    for status, answer in operation.answers.items():
        yield str(status), _answer(answer)
    if operation.tag == "v1":
        if not operation.body:
            yield "304", {"description": "You have it already: it is still what If-None-Match says."}
        by_status: defaultdict[int, list[Problem]] = defaultdict(list)
        for problem in (*operation.problems, *ANYWHERE):
            by_status[problem.status].append(problem)
        for status, kinds in by_status.items():
            yield str(status), _problems(kinds)
    elif "503" not in map(str, operation.answers):
        yield from ((str(status), _later(status)) for status in (500, 503))


def _at_the_door(operation: Operation) -> Iterator[tuple[str, Json]]:
    for problem in problems.AT_THE_DOOR:
        yield str(problem.status), _problems([problem]) if operation.tag == "v1" else _message(problem.title)


def _message(says: str) -> Json:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Message")}}}
    return {"description": f"{says}.", "content": content}


def _later(status: int) -> Json:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Message")}}}
    headers = {"Retry-After": _RETRY_AFTER} if status == problems.UNAVAILABLE.status else {}
    says = "Not right now." if headers else "A fault in the program."
    return {"description": says, "content": content} | ({"headers": headers} if headers else {})


def _answer(answer: Answer) -> Json:
    if isinstance(answer.example, str):
        content: Json = {"text/plain": {"schema": {"type": "string"}, "example": answer.example}}
    else:
        example = to_jsonable_python(answer.example)
        content = {"application/json": {"schema": _schema_of(answer.kind or type(answer.example)), "example": example}}
    if answer.or_text:
        content["text/plain"] = {"schema": {"type": "string"}, "example": answer.or_text}
    headers = {name: {"description": says, "schema": {"type": "string"}} for name, says in answer.headers.items()}
    return {"description": answer.says, "content": content} | ({"headers": headers} if headers else {})


def _problems(kinds: Iterable[Problem]) -> Json:
    kinds = list(kinds)
    names = list(dict.fromkeys(_component_of(problem) for problem in kinds))
    refs = [{"$ref": _REF.format(model=name)} for name in names]
    examples = {problem.name: {"summary": problem.title, "value": example_of(problem)} for problem in kinds}
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    described: Json = {
        "description": " · ".join(f"`{problem.type}`: {problem.title}." for problem in kinds),
        "content": {"application/problem+json": {"schema": schema, "examples": examples}},
    }
    if {problems.STILL_RUNNING, problems.TOO_MANY_REQUESTS, problems.UNAVAILABLE} & set(kinds):
        described["headers"] = {"Retry-After": _RETRY_AFTER}
    return described


def example_of(problem: Problem) -> Json:
    details: Json = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.example,
        "instance": "urn:request:till-5%2F4711",
    }
    if problem is problems.INVALID_VALUES:
        rule = problem.example.removeprefix("qty: ")
        details |= {"errors": [{"detail": rule, "pointer": "#/qty"}]}
    if problem is problems.OUT_OF_STOCK:
        details |= to_jsonable_python(problems.Shortage("anna-1", "RED-CHAIR", "RED-CHAIR", 8, 10, 7, 3, 3, None))
    return details


def _component_of(problem: Problem) -> str:
    return f"{problems.EXTENSIONS[problem].__name__}Problem" if problem in problems.EXTENSIONS else "Problem"


def _schema_of(kind: Any) -> Json:
    schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=_REF)
    schema.pop("$defs", None)
    if schema.get("type") == "object":
        return {"$ref": _REF.format(model=kind.__name__)}
    return schema


@cache
def _components() -> Json:
    answers = [answer for operation in OPERATIONS.values() for answer in operation.answers.values()]
    kinds = {answer.kind or type(answer.example) for answer in answers} - {str}
    found: Json = {}
    for kind in (*kinds, ProblemDetails, *problems.EXTENSIONS.values()):
        schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=_REF)
        found |= schema.pop("$defs", {})
        if schema.get("type") == "object":
            found[kind.__name__] = schema
    found["Problem"] = found.pop("ProblemDetails")
    for problem, extension in problems.EXTENSIONS.items():
        both: list[Mapping[str, str]] = [{"$ref": _REF.format(model=name)} for name in ("Problem", extension.__name__)]
        found[_component_of(problem)] = {"allOf": both}
    return dict(sorted(found.items()))
