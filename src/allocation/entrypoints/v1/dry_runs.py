"""Dry runs: what a command would do now, of every route under /v1 that takes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flask import Response, current_app, g, request

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.bootstrap import Service
from allocation.entrypoints.http.input import message_id
from allocation.entrypoints.http.routes import Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer
from messaging import envelope


@dataclass(frozen=True, slots=True)
class DryRunEvent:
    """One that would be recorded."""

    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would happen; nothing has changed. `would_answer` is the status that the same request would get without
    `dry_run`, `result` what the command gives, or the problem that it would be answered with."""

    dry_run: Literal[True]
    would_answer: int
    result: Any
    events: list[DryRunEvent]


def is_asked_for(route: Route) -> bool:
    """Raises BadParameter. OPTIONS is no command, and needs another scope."""
    if "dry_run" not in request.args or request.method != route.method:  # most ask for none, and need not wait
        return False
    kind = queries.kind_of(route)
    return bool(kind and issubclass(kind, queries.OfCommands) and queries.read(kind).dry_run)


def answered(route: Route, service: Service) -> Response:
    """Raises what the reading of the command raises, and Unavailable."""
    command = route.command(request.view_args or {})
    message_id()  # is looked up nowhere, and refused if it can't be read
    found = service.bus.dry_run(command, g.metadata)
    events = [DryRunEvent(**CLOUD_EVENTS.bare(recorded.event)) for recorded in found.events]
    if problem := _problem(route, command, found):
        status, result = problem.status_code, problem.get_json()
    else:  # of those that it declares, 201 is for what is new, and 200 for what was so before
        status, result = max(route.answers) if found.changed else min(route.answers), found.result
    return answer(DryRun(dry_run=True, would_answer=status, result=result, events=events))


def _problem(route: Route, command: object, found: envelope.DryRun) -> Response | None:
    if found.refusal:
        return current_app.make_response(current_app.handle_user_exception(found.refusal))
    return route.falls_short(command, found) if route.falls_short else None
