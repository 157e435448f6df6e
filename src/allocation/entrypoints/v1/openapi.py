"""The OpenAPI document: from the declarations of the routes, with the types that validate."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any, TypeAlias

from flask import Flask
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from allocation.entrypoints.http import problems
from allocation.entrypoints.http.problems import Problem, ProblemDetails
from allocation.entrypoints.http.routes import Answer, Route, declarations
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.dry_runs import DryRun
from allocation.validation import Name
from allocation.views import Batch
from messaging.envelope import LONGEST_TEXT

Json: TypeAlias = dict[str, Any]

_REF = "#/components/schemas/{model}"
_TAGS = {
    "v1": "Products, batches, orders, events.",
    "the book's": "The routes of the book's chapter 13, for callers who know them.",
    "health": "",
}

_ABOUT = """
Promises order lines from batches of purchased stock: from the warehouse first, then by the earliest delivery.

Errors under `/v1` are problem details (RFC 9457). A request with an `Idempotency-Key` may be sent again and changes
nothing more. Lists have pages: `next` is the cursor of the next one, and the `Link` header its address.

Where the service is reached from other machines it requires an API key, `Authorization: Bearer KEY`; on loopback it
does not.
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
    "schema": {"type": "string", "minLength": 1, "pattern": r'^(\*|"[0-9]{1,10}(-[0-9]{1,10}){6}")$'},
    "example": '"100-0-0-0-0-0-0"',
}
_IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of what you have already: if it still matches, the answer is 304 and has no body.",
    "schema": {"type": "string"},
}
_RETRY_AFTER: Json = {"description": "Seconds.", "schema": {"type": "integer"}}


def document(app: Flask) -> Json:
    """Of all routes that are declared, by their tags."""
    declared = declarations(app).by_endpoint
    paths: defaultdict[str, Json] = defaultdict(dict)
    for endpoint, route in sorted(declared.items(), key=lambda item: list(_TAGS).index(item[1].tag)):
        [rule] = app.url_map.iter_rules(endpoint)
        path = rule.rule
        for name in route.parameters:
            path = re.sub(rf"<(\w+:)?{name}>", f"{{{name}}}", path)
        paths[path][route.method.lower()] = _operation(endpoint, route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Allocation",
            "version": version("allocation"),
            "description": _ABOUT.strip(),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": says} if says else {"name": name} for name, says in _TAGS.items()],
        "paths": dict(paths),
        "components": {"schemas": _components(declared.values()), "securitySchemes": {"key": _KEY}},
        "security": [{}, {"key": []}],
    }


def _operation(endpoint: str, route: Route) -> Json:
    needs = f"Where API keys are required it needs the scope `{route.needs}`." if route.needs else "Public."
    name = endpoint.rpartition(".")[2]
    described: Json = {
        "operationId": f"book_{name}" if route.tag == "the book's" else name,
        "tags": [route.tag],
        "summary": route.summary,
        "description": f"{route.description} {needs}",
    }
    if not route.needs:
        described["security"] = []
    if parameters := list(_parameters(route)):
        described["parameters"] = parameters
    if row := route.takes:
        known = route.known.values()
        example = {name: value for name, value in row.example.items() if name not in known}
        if route.has_body:
            schema = route.schema.json_schema(known, may_add=route.may_add)
            content = {"application/json": {"schema": schema, "example": example}}
            described["requestBody"] = {"required": True, "content": content}
    described["responses"] = dict(sorted((*_responses(route), *(_of_access_control(route) if route.needs else ()))))
    return described


def _parameters(route: Route) -> Iterator[Json]:
    fields = route.schema.json_schema()["properties"] if route.takes else {}
    for name in route.parameters:
        schema = fields.get(route.known.get(name), TypeAdapter(Name).json_schema())
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if query := queries.kind_of(route):
        schemas = query.model_json_schema()
        for name, schema in schemas["properties"].items():
            is_required = {"required": True} if name in schemas.get("required", ()) else {}
            yield {"name": name, "in": "query", **is_required, **_without_null(schema)}
    if route.takes:
        yield _IDEMPOTENCY_KEY
    if route.if_match:
        yield _IF_MATCH
    if route.tag == "v1" and not route.takes:
        yield _IF_NONE_MATCH


def _without_null(schema: Json) -> Json:
    """A parameter is there or not; null it can't be."""
    (of_value,) = [one for one in schema.pop("anyOf", [schema]) if one.get("type") != "null"]
    description = of_value.pop("description", schema.get("description"))
    default = {"default": schema["default"]} if schema.get("default") is not None else {}
    of_value = {name: value for name, value in of_value.items() if name not in ("title", "default")}
    return {"schema": {**of_value, **default}} | ({"description": description} if description else {})


def _responses(route: Route) -> Iterator[tuple[str, Json]]:
    answers = {status: _answer(answer, dict(_headers(route, answer))) for status, answer in route.answers.items()}
    if route.takes and not route.may_add:
        answers[200] = _or_dry_run(answers.get(200))
    for status, described in answers.items():
        yield str(status), described
    if route.tag == "v1":
        if not route.takes:
            yield "304", {"description": "Not modified: it is still what If-None-Match says."}
        by_status: defaultdict[int, list[Problem]] = defaultdict(list)
        for problem in (*route.problems, *problems.OF_EVERY_ROUTE):
            by_status[problem.status].append(problem)
        for status, kinds in by_status.items():
            yield str(status), _problems(kinds)
    elif problems.UNAVAILABLE.status not in route.answers:
        for problem in problems.OF_EVERY_ROUTE:
            headers = {"headers": {"Retry-After": _RETRY_AFTER}} if problem is problems.UNAVAILABLE else {}
            yield str(problem.status), _message(problem) | headers


def _of_access_control(route: Route) -> Iterator[tuple[str, Json]]:
    for problem in problems.OF_ACCESS_CONTROL:
        yield str(problem.status), _problems([problem]) if route.tag == "v1" else _message(problem)


def _message(problem: Problem) -> Json:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Message")}}}
    return {"description": f"{problem.title}.", "content": content}


def _headers(route: Route, answer: Answer) -> Iterator[tuple[str, Json]]:
    if route.tag == "v1" and (route.method == "GET" or isinstance(answer.example, Batch)):
        yield "ETag", _text("The version of what is here: for If-None-Match, and of a batch for If-Match.")
    if answer.has_location:
        yield "Location", _text("Where to find it again.")
    if route.query and issubclass(route.query, queries.Page):
        yield "Link", _text("The next page, as rel=next, if there is one.")


def _text(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _answer(answer: Answer, headers: Json) -> Json:
    if answer.example is None:
        return {"description": answer.description}
    if isinstance(answer.example, str):
        content: Json = {"text/plain": {"schema": {"type": "string"}, "example": answer.example}}
    else:
        example = to_jsonable_python(answer.example)
        content = {"application/json": {"schema": _schema_of(answer.kind or type(answer.example)), "example": example}}
    if answer.or_text:
        content["text/plain"] = {"schema": {"type": "string"}, "example": answer.or_text}
    return {"description": answer.description, "content": content} | ({"headers": headers} if headers else {})


def _or_dry_run(described: Json | None) -> Json:
    """The answer 200, which that of a dry run is too."""
    schema, says = {"$ref": _REF.format(model=DryRun.__name__)}, "With `dry_run=true`: what would happen."
    if described is None:
        return {"description": says, "content": {"application/json": {"schema": schema}}}
    content = described["content"]["application/json"]
    either = content | {"schema": {"anyOf": [content["schema"], schema]}}
    return described | {"description": f"{described['description']} {says}", "content": {"application/json": either}}


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
        details |= to_jsonable_python(problems.Shortage("anna-1", "RED-CHAIR", "RED-CHAIR", 8, 10, 5, 3, 3, None, 0, 2))
    return details


def _component_of(problem: Problem) -> str:
    return f"{problem.extension.__name__}Problem" if problem.extension else "Problem"


def _schema_of(kind: Any) -> Json:
    schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=_REF)
    schema.pop("$defs", None)
    if schema.get("type") == "object":
        return {"$ref": _REF.format(model=kind.__name__)}
    return schema


def _components(routes: Iterable[Route]) -> Json:
    answers = [answer for route in routes for answer in route.answers.values()]
    kinds = {answer.kind or type(answer.example) for answer in answers} - {str, type(None)}
    extended = {problem: problem.extension for problem in problems.PROBLEMS.values() if problem.extension}
    found: Json = {}
    for kind in (*kinds, DryRun, ProblemDetails, *extended.values()):
        schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=_REF)
        found |= schema.pop("$defs", {})
        if schema.get("type") == "object":
            found[kind.__name__] = schema
    found["Problem"] = found.pop("ProblemDetails")
    for problem, extension in extended.items():
        names = ("Problem", extension.__name__)
        found[_component_of(problem)] = {"allOf": [{"$ref": _REF.format(model=name)} for name in names]}
    return dict(sorted(found.items()))
