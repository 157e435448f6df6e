"""The routes under /v1."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote

from flask import Blueprint, g
from flask.typing import ResponseReturnValue
from pydantic import TypeAdapter, ValidationError
from werkzeug.exceptions import NotFound

from allocation import validation
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.bootstrap import Service
from allocation.domain.errors import DomainError
from allocation.domain.lines import OrderLine
from allocation.entrypoints.http.input import body, message_id
from allocation.entrypoints.v1 import problems, queries
from allocation.entrypoints.v1.answers import answer
from allocation.entrypoints.v1.conditions import ConditionMissing, seen
from allocation.entrypoints.v1.out_of_stock import out_of_stock
from allocation.entrypoints.v1.queries import (
    AT_BATCH,
    AT_EVENT,
    AT_SKU,
    BadParameter,
    OfBatches,
    OfEvents,
    Page,
    cursor_at,
    link_to,
    place_of,
)
from allocation.entrypoints.v1.shapes import Allocation, Batches, Event, Events, Products
from allocation.validation import BadInput
from allocation.views import Batch
from messaging.errors import MessageIdReused, StillRunning
from messaging.sql.log_reader import EventFilter, LoggedEvent, LogPosition, UnknownPosition

F = TypeVar("F")


def blueprint(service: Service) -> Blueprint:
    v1 = Blueprint("v1", __name__, url_prefix="/v1")
    _add_products(v1, service)
    _add_batches(v1, service)
    _add_orders(v1, service)
    _add_events(v1, service)
    _add_allocations(v1, service)
    _add_problems(v1)
    return v1


# --- products and batches -------------------------------------------------------


def _add_products(v1: Blueprint, service: Service) -> None:
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


def _add_batches(v1: Blueprint, service: Service) -> None:
    @v1.get("/batches")
    def batches() -> ResponseReturnValue:
        asked = queries.read(OfBatches)
        sku, after = place_of(asked.cursor, AT_BATCH) if asked.cursor else (asked.sku, None)
        if sku != asked.sku:
            raise queries.unknown_cursor()
        found = service.views.batches(sku, after, asked.limit + 1)
        items = found[: asked.limit]
        following = cursor_at(sku, items[-1].ref) if len(found) > asked.limit else None
        return answer(Batches(items, following), headers=link_to(following))

    @v1.get("/batches/<any_text:ref>")
    def batch(ref: str) -> ResponseReturnValue:
        return answer(_batch(service, ref))

    @v1.post("/batches")
    def create_batch() -> ResponseReturnValue:
        command = body(validation.CREATE_BATCH)
        outcome = service.bus.outcome(command, g.metadata, message_id())
        outcome.unwrap()
        location = {"Location": f"/v1/batches/{quote(command.ref, safe='')}"}
        return answer(_batch(service, command.ref), 201 if outcome.changed else 200, location)

    @v1.patch("/batches/<any_text:ref>")
    def change_batch(ref: str) -> ResponseReturnValue:
        expected = seen()
        command = body(validation.CHANGE_BATCH_QUANTITY, batchref=_name(ref))
        service.bus.handle(replace(command, seen=expected), g.metadata, message_id())
        return answer(_batch(service, ref))


def _batch(service: Service, ref: str) -> Batch:
    return _found(service.views.batch(_name(ref)), f"no batch has the reference {ref}")


# --- orders and events ----------------------------------------------------------


def _add_orders(v1: Blueprint, service: Service) -> None:
    @v1.get("/orders/<any_text:orderid>")
    def order(orderid: str) -> ResponseReturnValue:
        events = f"/v1/events?orderid={quote(orderid, safe='')}"
        return answer(
            _found(service.views.order(_name(orderid)), f"no line of order {orderid} is allocated; see {events}")
        )


def _add_events(v1: Blueprint, service: Service) -> None:
    @v1.get("/events")
    def events() -> ResponseReturnValue:
        asked = queries.read(OfEvents)
        after = LogPosition(*place_of(asked.cursor, AT_EVENT)) if asked.cursor else None
        wanted = EventFilter(stream=asked.sku, subject=asked.orderid, since=asked.since, until=asked.until)
        try:
            found = service.log.read(wanted, after, asked.limit + 1)
        except UnknownPosition:
            raise queries.unknown_cursor() from None
        shown = found[: asked.limit]
        resume = cursor_at(shown[-1].stream, shown[-1].version) if shown else asked.cursor
        following = resume if len(found) > asked.limit else None
        return answer(Events([_event(entry) for entry in shown], following, resume), headers=link_to(following))


def _event(entry: LoggedEvent) -> Event:
    return Event(
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


# --- allocations ----------------------------------------------------------------


def _add_allocations(v1: Blueprint, service: Service) -> None:
    @v1.post("/allocations")
    def allocate() -> ResponseReturnValue:
        command, key = body(validation.ALLOCATE), message_id()
        outcome = service.bus.outcome(command, g.metadata, key)
        batchref: str | None = outcome.unwrap()
        line = OrderLine.of(command)
        if batchref is None:
            room = service.views.room(line.sku)
            return out_of_stock(line, room, is_first_answer=outcome.changed, has_key=key is not None)
        made = Allocation(line.orderid, line.lineid, line.sku, line.qty, batchref, _batch(service, batchref).eta)
        location = {"Location": f"/v1/orders/{quote(line.orderid, safe='')}"}
        return answer(made, 201 if outcome.changed else 200, location)


# --- what all of them need ------------------------------------------------------


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
        return problems.answer(problems.OF_REFUSALS[type(error)], str(error))

    @v1.errorhandler(ConditionMissing)
    def condition_missing(error: ConditionMissing) -> ResponseReturnValue:
        return problems.answer(problems.PRECONDITION_REQUIRED, str(error))

    @v1.errorhandler(MessageIdReused)
    def reused(_: MessageIdReused) -> ResponseReturnValue:
        return problems.answer(problems.IDEMPOTENCY_KEY_REUSED, problems.KEY_USED_BEFORE)

    @v1.errorhandler(StillRunning)
    def still_running(_: StillRunning) -> ResponseReturnValue:
        later = problems.answer(problems.STILL_RUNNING, problems.STILL_AT_WORK)
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
