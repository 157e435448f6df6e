"""Each route under /v1 that takes a command, asked for its example, in states in which that is taken or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import quote, urlencode

from flask.testing import FlaskClient
from pydantic_core import to_jsonable_python
from werkzeug.test import TestResponse

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.domain.commands import Allocate, Command, CreateBatch, Dispatch, ParcelLine, PlaceHold, Quarantine
from allocation.entrypoints.http.routes import Route, declarations
from messaging.envelope import Recorded
from messaging.observation import Observer

_LINE = Allocate("order-1", "RED-CHAIR", 12, "line-1")
_LEFT = Dispatch("order-1", "parcel-0", (ParcelLine("line-1", 5, None),))

STATES: Mapping[str, Sequence[Command]] = {
    "nothing": [],
    "short": [CreateBatch("batch-1", "RED-CHAIR", 3)],
    "open": [CreateBatch("batch-1", "RED-CHAIR", 100)],
    "expected": [CreateBatch("batch-1", "RED-CHAIR", 100, date(2031, 1, 1)), _LINE],
    "here": [CreateBatch("batch-1", "RED-CHAIR", 13), CreateBatch("batch-0", "RED-CHAIR", 12, date(2031, 1, 1)), _LINE],
    "order": [
        CreateBatch("batch-1", "RED-CHAIR", 2, location="hamburg"),
        CreateBatch("batch-7", "TABLE", 5, location="berlin"),
    ],
    "held": [CreateBatch("batch-1", "RED-CHAIR", 100), PlaceHold("cart-9", "RED-CHAIR", 2, 60)],
    "held otherwise": [CreateBatch("batch-1", "RED-CHAIR", 100), PlaceHold("cart-9", "RED-CHAIR", 1, 60)],
    "later": [
        CreateBatch("batch-2", "RED-CHAIR", 12, date(2031, 1, 1)),
        _LINE,
        CreateBatch("batch-1", "RED-CHAIR", 100),
    ],
    "left": [
        CreateBatch("batch-1", "RED-CHAIR", 40),
        _LINE,
        _LEFT,
        Quarantine("batch-1", 4, "damaged", "quarantine-0"),
    ],
}

ANY, STALE = "*", '"1-0-0-0-0-0-0"'


class Seen(Observer):
    """What was committed."""

    def __init__(self) -> None:
        self.log: list[Recorded[object]] = []

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        self.log += recorded

    def take(self) -> list[dict[str, Any]]:
        found, self.log = self.log, []
        return [CLOUD_EVENTS.bare(recorded.event) for recorded in found]


@dataclass(frozen=True)
class Asked:
    """A request, and its dry run."""

    client: FlaskClient
    route: Route
    if_match: str

    def __str__(self) -> str:
        return f"{self.route.method} {self.route.path} {self.if_match}"

    def really(self, **headers: str) -> TestResponse:
        return self._open("", headers)

    def dry_run(self, **headers: str) -> TestResponse:
        return self._open("dry_run=true", headers)

    def _open(self, query: str, headers: Mapping[str, str]) -> TestResponse:
        assert self.route.takes
        conditions = {"If-Match": self.if_match} if self.route.if_match else {}
        return ask_for(self.client, self.route, self.route.takes.example, {**conditions, **headers}, query)


def request_for(client: FlaskClient, command: Command) -> TestResponse:
    """Send it, by its route."""
    routes = declarations(client.application).by_endpoint.values()
    [route] = [one for one in routes if one.takes and one.tag == "v1" and one.takes.kind is type(command)]
    assert route.takes
    given = to_jsonable_python(command)
    values = {row.wire or name: given[name] for name, row in route.takes.fields.items() if given[name] != ""}
    return ask_for(client, route, values, {"If-Match": ANY} if route.if_match else {})


def ask_for(
    client: FlaskClient, route: Route, values: Mapping[str, Any], headers: Mapping[str, str], query: str = ""
) -> TestResponse:
    in_path = {name: str(values[wire]) for name, wire in route.known.items()}
    path = re.sub(r"<\w+:(\w+)>", lambda found: quote(in_path[found[1]], safe=""), route.path)
    in_query = urlencode({name: values[name] for name in route.in_query})
    question = "&".join(part for part in (in_query, query) if part)
    body = {name: value for name, value in values.items() if name not in {*route.known.values(), *route.in_query}}
    sent: dict[str, Any] = {"json": body} if route.has_body else {}
    return client.open(f"/v1{path}?{question}", method=route.method, headers=dict(headers), **sent)


def every_command(client: FlaskClient) -> Iterator[Asked]:
    for route in declarations(client.application).by_endpoint.values():
        if route.takes and route.tag == "v1":
            yield Asked(client, route, ANY)
            if route.if_match:
                yield Asked(client, route, STALE)


def agreed(asked: Asked, seen: Seen) -> Mapping[str, Any]:
    """The dry run, once the request was sent and did what that had said."""
    dry_run = asked.dry_run()
    assert not seen.take(), f"{asked}: nothing has happened"
    really = asked.really()
    assert dry_run.status_code == 200, dry_run.text
    found: dict[str, Any] = dry_run.json or {}
    assert (found["dry_run"], found["would_answer"]) == (True, really.status_code), f"{asked}: {really.text}"
    assert list(map(_timeless, found["events"])) == list(map(_timeless, seen.take())), asked
    if really.status_code >= 400:
        assert _lasting(found["result"]) == _lasting(really.json or {}), asked
    return found


def _timeless(event: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is reckoned from now."""
    data = event["data"]
    return {**event, "data": {name: value for name, value in data.items() if name != "until"}}


def _lasting(problem: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "instance"}
