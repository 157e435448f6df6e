"""Events: what has happened, from the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.bootstrap import Service
from allocation.domain.names import forms
from allocation.entrypoints.http import cursors
from allocation.entrypoints.http.cursors import cursor_at
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer
from allocation.entrypoints.v1.queries import OfEvents, end_of, link_to
from messaging.sql.log_reader import EventFilter, LoggedEvent, LogPosition, UnknownPosition


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to a SKU: the `version`-th. `type` and `data` are those of the event stream.

    `principal` is who asked for it, as `api_key:shop`; null where nobody had to say.
    """

    id: str
    type: str
    sku: str
    version: int
    time: datetime
    correlation_id: str
    causation_id: str | None
    principal: str | None
    data: dict[str, Any]

    @classmethod
    def of(cls, entry: LoggedEvent) -> Event:
        return cls(
            entry.id,
            CLOUD_EVENTS.type_named(entry.type),
            entry.stream,
            entry.version,
            entry.time,
            entry.correlation_id,
            entry.causation_id,
            entry.principal,
            entry.data,
        )


@dataclass(frozen=True, slots=True)
class Events:
    """A page of events, in the order of their commits. `next` is the cursor of the next page, null when there is none
    yet; `resume` is the cursor for what comes after this page, whenever it comes."""

    items: list[Event]
    next: str | None
    resume: str | None


_EVENT = Event(
    "8f0cbb3d-5f0a-4a53-9c1e-0d3a4a1a7b11",
    "allocation.allocated.v1",
    "RED-CHAIR",
    3,
    datetime(2030, 11, 20, 9, 30, 0, 250_000, UTC),
    "till-5/4711",
    "3f9f3c8e-7a64-4c0f-8a52-5b6ad9f2f5c0",
    "api_key:till-5",
    {"orderid": "order-1", "sku": "RED-CHAIR", "qty": 12, "batchref": "batch-1", "lineid": "line-1"},
)

_PAGE = Answer("A page.", Events([_EVENT], None, cursor_at(("RED-CHAIR", 3, _EVENT.id))))


def add_routes(v1: Blueprint, service: Service) -> None:
    @Route(v1, "GET", "/events", Scope.READ, {200: _PAGE}, query=OfEvents)
    def events() -> ResponseReturnValue:
        """List events. From the log, in the order of commits, so that whoever goes on from a cursor misses nothing.
        Filters combine."""
        query = queries.read(OfEvents)
        end = end_of(query, cursors.EVENT)
        after = LogPosition(*end) if end else None
        skus = forms(query.sku) if query.sku else [None]
        if after and after.stream in skus:  # in whichever form, that of the page before
            skus = [after.stream]
        found: list[LoggedEvent] = []
        for sku, orderid in product(skus, forms(query.orderid) if query.orderid else [None]):
            wanted = EventFilter(stream=sku, subject=orderid, since=query.since, until=query.until)
            try:
                found = found or service.log.read(wanted, after, query.limit + 1)
            except UnknownPosition:
                raise queries.unknown_cursor() from None
        shown = found[: query.limit]
        resume = cursor_at((shown[-1].stream, shown[-1].version, shown[-1].id)) if shown else query.cursor
        following = resume if len(found) > query.limit else None
        return answer(Events([Event.of(entry) for entry in shown], following, resume), headers=link_to(following))
