"""Routes declare themselves: what a route takes, answers and needs stands where its function stands.

Access control, the reading of commands and the OpenAPI document are derived from these declarations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, request
from flask.sansio.app import App
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from allocation.access.keys import Scope
from allocation.entrypoints.http import problems
from allocation.entrypoints.http.conditions import refuse_where_nothing_is_compared, seen
from allocation.entrypoints.http.input import body, message_id, name_in_path
from allocation.entrypoints.http.problems import Problem
from allocation.service_layer.messages.table import CommandRow
from allocation.validation import SCHEMAS, Schema
from messaging.envelope import Outcome

V = TypeVar("V", bound=Callable[..., ResponseReturnValue])

LARGEST_BODY = 64 * 1024
"""Bytes, where a route does not say otherwise."""

PUBLIC = None
"""What a route needs that is open to everybody."""

_IN_PATH = re.compile(r"<(?:\w+:)?(\w+)>")
_DECLARATIONS = "allocation.routes"


class NotDeclared(LookupError):
    """The route has no declaration, so nobody has decided who may use it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An example, and by it the type; plain text is an example without one, and None is no content. `has_location`: of
    what was made."""

    description: str
    example: Any
    kind: Any = None
    or_text: str | None = None
    has_location: bool = False


@dataclass(eq=False)
class Route:
    """Declares the function that it decorates. The first sentence of its docstring is the summary, the rest describes.

    A route that `takes` a command is called with that and the message id: fields of the command are read from the path
    and the query where those have them, and from the body. With `if_match` a change must name the ETag of what it is
    based on, which becomes the command's field `seen`. `raises` are problems beside those that follow from all this; of
    a command, `falls_short` gives the answer that is one of them, for an outcome that is no refusal. What it `ignores`
    are fields of the command that have no meaning here.
    """

    where: Flask | Blueprint
    method: str
    path: str
    needs: Scope | None
    answers: Mapping[int, Answer]
    _: KW_ONLY
    takes: CommandRow[Any] | None = None
    query: type[BaseModel] | None = None
    if_match: bool = False
    raises: Sequence[Problem] = ()
    falls_short: Callable[[Any, Outcome], Response | None] | None = None
    ignores: Collection[str] = ()
    largest_body: int = LARGEST_BODY
    tag: str = "v1"
    summary: str = field(init=False)
    description: str = field(init=False)

    def __post_init__(self) -> None:
        assert not (self.takes and self.raises) or self.falls_short, "a dry run of it would not know what it raises"

    def __call__(self, view: V) -> V:
        name = view.__name__
        summary, _, self.description = " ".join((view.__doc__ or "").split()).partition(". ")
        self.summary = summary.rstrip(".")
        function = self._reading_the_command(view) if self.takes else view
        self.where.add_url_rule(self.path, name, function, methods=[self.method])
        if isinstance(self.where, Blueprint):
            endpoint = f"{self.where.name}.{name}"
            self.where.record_once(lambda state: declarations(state.app).by_endpoint.update({endpoint: self}))
        else:
            declarations(self.where).by_endpoint[name] = self
        return view

    @cached_property
    def schema(self) -> Schema[Any]:
        """Of the command that it takes."""
        assert self.takes, "another route reads no command"
        if not self.ignores:
            return SCHEMAS[self.takes.name]
        fields = {name: row for name, row in self.takes.fields.items() if name not in self.ignores}
        return Schema(replace(self.takes, fields=fields, internal=[*self.takes.internal, *self.ignores]))

    @property
    def parameters(self) -> list[str]:
        """Those in the path."""
        return _IN_PATH.findall(self.path)

    @property
    def known(self) -> dict[str, str]:
        """Fields of the command that stand in the path, each with its name in a message: no body has them."""
        fields = self.takes.fields if self.takes else {}
        return {name: fields[name].wire or name for name in self.parameters if name in fields}

    @property
    def in_query(self) -> list[str]:
        """Fields of the command that stand in the query."""
        return (
            [name for name in self.query.model_fields if name in self.takes.fields] if self.takes and self.query else []
        )

    @property
    def has_body(self) -> bool:
        """A command of which the path and the query say everything needs none."""
        return self.takes is not None and len(self.known) + len(self.in_query) < len(self.takes.fields)

    @property
    def may_add(self) -> bool:
        """Whether keys that we do not know are ignored, in the body and in the query, as in the book."""
        return self.tag != "v1"

    @property
    def problems(self) -> list[Problem]:
        of_path = [problems.NOT_FOUND] if self.parameters else []  # a name may be longer than any
        if not self.takes:
            return [*of_path, problems.INVALID_VALUES, *self.raises]
        of_rules = dict.fromkeys([*of_path, *(problems.OF_REFUSALS[refusal] for refusal in self.takes.refuses)])
        of_header = [problems.PRECONDITION_REQUIRED] if self.if_match else []
        return [*problems.OF_EVERY_COMMAND, *of_rules, *of_header, *self.raises]

    def command(self, path: Mapping[str, str]) -> Any:
        """What the request asks for, of which these are the names in the path. Raises BadInput, HTTPException."""
        schema = self.schema
        if not self.if_match and not self.may_add:
            refuse_where_nothing_is_compared()
        expected = {"seen": seen()} if self.if_match else {}
        given = {wire: name_in_path(path[name]) for name, wire in self.known.items()}
        given |= {name: request.args[name] for name in self.in_query if name in request.args}
        if self.has_body or request.get_data():  # then all of it must be known, too
            command = body(schema, self.largest_body, given, may_add=self.may_add)
        else:
            command = schema.read_fields(given)
        return replace(command, **expected) if expected else command

    def _reading_the_command(self, view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
        known = self.known

        def read(**path: str) -> ResponseReturnValue:
            others = {name: value for name, value in path.items() if name not in known}
            return view(self.command(path), message_id(), **others)

        return read


@dataclass(frozen=True, slots=True)
class Declarations:
    """What is declared of an application's routes."""

    by_endpoint: dict[str, Route] = field(default_factory=dict)
    public_blueprints: set[str] = field(default_factory=set)

    def scope(self, endpoint: str, method: str) -> Scope | None:
        """What a request needs; PUBLIC: nothing. Raises NotDeclared."""
        route = self.by_endpoint.get(endpoint)
        if route:
            return Scope.READ if route.needs and method == "OPTIONS" else route.needs
        if endpoint.partition(".")[0] in self.public_blueprints:
            return PUBLIC
        raise NotDeclared(endpoint)

    def largest_body(self, endpoint: str | None = None) -> int:
        """Of a route, or of all."""
        if endpoint:
            return self.by_endpoint[endpoint].largest_body if endpoint in self.by_endpoint else LARGEST_BODY
        return max(route.largest_body for route in self.by_endpoint.values())


def declarations(app: App) -> Declarations:
    found: Declarations = app.extensions.setdefault(_DECLARATIONS, Declarations())
    return found


def declare_public(blueprint: Blueprint) -> None:
    """Its routes are pages for people and need no API key: they hold nothing stored, or have a sign-in of their own."""
    blueprint.record_once(lambda state: declarations(state.app).public_blueprints.add(blueprint.name))
