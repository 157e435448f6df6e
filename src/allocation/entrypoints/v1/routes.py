"""The routes under /v1."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TypeVar
from urllib.parse import quote

from flask import Blueprint, g
from flask.typing import ResponseReturnValue
from pydantic import TypeAdapter, ValidationError
from werkzeug.exceptions import NotFound

from allocation import validation
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.bootstrap import Service
from allocation.domain.model import DomainError, OrderLine
from allocation.entrypoints.http.input import body, message_id
from allocation.entrypoints.v1 import problems, queries
from allocation.entrypoints.v1.answers import Allocation, Event, Events, Products
from allocation.entrypoints.v1.conditions import ConditionMissing, answer, seen
from allocation.entrypoints.v1.queries import (
    AT_EVENT,
    AT_SKU,
    BadParameter,
    OfEvents,
    Page,
    cursor_at,
    link_to,
    place_of,
)
from allocation.validation import BadInput
from allocation.views import Batch, Room
from messaging.errors import MessageIdReused, StillRunning
from messaging.sql.log_reader import Entry, Place, UnknownPlace, Wanted

F = TypeVar("F")


def blueprint(service: Service) -> Blueprint:
    v1 = Blueprint("v1", __name__, url_prefix="/v1")
    bus = service.bus
    _add_problems(v1)

    @v1.get("/products")
    def products() -> ResponseReturnValue:
        page = queries.read(Page)
        after = place_of(page.cursor, AT_SKU)[0] if page.cursor else ""
        found = service.views.products(after, page.limit + 1)
        items = found[: page.limit]
        following = cursor_at(items[-1].sku) if len(found) > page.limit else None
        return answer(Products(items, following), headers=link_to(following))

    @v1.get("/products/<any_text:sku>")
    def product(sku: str) -> ResponseReturnValue:
        return answer(_found(service.views.product(_name(sku)), f"no batch of {sku} was ever added"))

    @v1.get("/batches/<any_text:ref>")
    def batch(ref: str) -> ResponseReturnValue:
        return answer(_batch(ref))

    @v1.get("/orders/<any_text:orderid>")
    def order(orderid: str) -> ResponseReturnValue:
        events = f"/v1/events?orderid={quote(orderid, safe='')}"
        return answer(
            _found(service.views.order(_name(orderid)), f"no line of order {orderid} is allocated; see {events}")
        )

    @v1.get("/events")
    def events() -> ResponseReturnValue:
        asked = queries.read(OfEvents)
        after = Place(*place_of(asked.cursor, AT_EVENT)) if asked.cursor else None
        wanted = Wanted(stream=asked.sku, subject=asked.orderid, since=asked.since, until=asked.until)
        try:
            found = service.views.log.read(wanted, after, asked.limit + 1)
        except UnknownPlace:
            raise queries.unknown_cursor() from None
        shown = found[: asked.limit]
        resume = cursor_at(shown[-1].stream, shown[-1].version) if shown else asked.cursor
        following = resume if len(found) > asked.limit else None
        return answer(Events([_event(entry) for entry in shown], following, resume), headers=link_to(following))

    @v1.post("/batches")
    def create_batch() -> ResponseReturnValue:
        command = body(validation.CREATE_BATCH)
        outcome = bus.outcome(command, g.metadata, message_id())
        outcome.unwrap()
        location = {"Location": f"/v1/batches/{quote(command.ref, safe='')}"}
        return answer(_batch(command.ref), 201 if outcome.changed else 200, location)

    @v1.patch("/batches/<any_text:ref>")
    def change_batch(ref: str) -> ResponseReturnValue:
        expected = seen()
        command = body(validation.CHANGE_BATCH_QUANTITY, batchref=_name(ref))
        bus.handle(replace(command, seen=expected), g.metadata, message_id())
        return answer(_batch(ref))

    @v1.post("/allocations")
    def allocate() -> ResponseReturnValue:
        command = body(validation.ALLOCATE)
        outcome = bus.outcome(command, g.metadata, message_id())
        batchref: str | None = outcome.unwrap()
        line = OrderLine(command.orderid, command.sku, command.qty, command.lineid)
        if batchref is None:
            return _out_of_stock(line, service.views.room(command.sku))
        made = Allocation(line.orderid, line.lineid, line.sku, line.qty, batchref, _batch(batchref).eta)
        location = {"Location": f"/v1/orders/{quote(command.orderid, safe='')}"}
        return answer(made, 201 if outcome.changed else 200, location)

    def _batch(ref: str) -> Batch:
        return _found(service.views.batch(_name(ref)), f"no batch has the reference {ref}")

    return v1


def _add_problems(v1: Blueprint) -> None:
    """For what only these routes raise, or what means more here. The rest is in `flask_app`."""

    @v1.errorhandler(BadInput)
    def bad_input(error: BadInput) -> ResponseReturnValue:
        if not error.problems:
            return problems.answer(problems.INVALID_REQUEST, str(error))
        in_query = isinstance(error, BadParameter)
        errors = []
        for one in error.problems:
            where = "/".join(map(str, one.where))
            place = {"parameter": where} if in_query else {"pointer": f"#/{where}" if where else "#"}
            errors.append({"detail": one.rule, **place})
        return problems.answer(problems.INVALID_VALUES, str(error), {"errors": errors})

    @v1.errorhandler(DomainError)
    def refused(error: DomainError) -> ResponseReturnValue:
        return problems.answer(problems.OF_DOMAIN[type(error)], str(error))

    @v1.errorhandler(ConditionMissing)
    def condition_missing(error: ConditionMissing) -> ResponseReturnValue:
        return problems.answer(problems.PRECONDITION_REQUIRED, str(error))

    @v1.errorhandler(MessageIdReused)
    def reused(_: MessageIdReused) -> ResponseReturnValue:
        return problems.answer(problems.IDEMPOTENCY_KEY_REUSED, problems.IDEMPOTENCY_KEY_REUSED.example)

    @v1.errorhandler(StillRunning)
    def still_running(_: StillRunning) -> ResponseReturnValue:
        later = problems.answer(problems.STILL_RUNNING, problems.STILL_RUNNING.example)
        later.headers["Retry-After"] = "1"
        return later


_TEXT: TypeAdapter[str] = TypeAdapter(validation.Text)


def _name(given: str) -> str:
    """What stands in a path; nothing is known by a name that nothing may have."""
    try:
        return _TEXT.validate_python(given)
    except ValidationError:
        raise NotFound(f"nothing may be called {given!r}") from None


def _found(what: F | None, otherwise: str) -> F:
    if what is None:
        raise NotFound(otherwise)
    return what


def _event(entry: Entry) -> Event:
    return Event(
        entry.id,
        f"{CLOUD_EVENTS.prefix}.{entry.type}",
        entry.stream,
        entry.version,
        entry.time,
        entry.correlation_id,
        entry.causation_id,
        entry.principal,
        entry.data,
    )


def _out_of_stock(line: OrderLine, room: Room) -> ResponseReturnValue:
    """With the arithmetic, which is that of the moment after: what has come in between is said to have come."""
    detail = (
        f"requested {line.qty}; purchased {room.purchased} − allocated {room.allocated} = {room.available} available"
    )
    if room.largest >= line.qty:
        detail += ", since just now: ask again"
    elif room.available >= line.qty:
        detail += f", at most {room.largest} in one batch"
    if room.next_eta:
        detail += f"; next eta {room.next_eta}"
    shortage = problems.Shortage(
        line.orderid,
        line.lineid,
        line.sku,
        line.qty,
        room.purchased,
        room.allocated,
        room.available,
        room.largest,
        room.next_eta,
    )
    return problems.answer(problems.OUT_OF_STOCK, detail, asdict(shortage))
