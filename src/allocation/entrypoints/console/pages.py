"""The pages of the console that show stock, a SKU, an order and events; how they look is said in the templates."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import TypeAdapter
from werkzeug.exceptions import NotFound

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.names import forms, normal
from allocation.entrypoints.console.dead_letters import add_dead_letters
from allocation.entrypoints.console.feed import NEWEST, Streams, newer, shown, stream
from allocation.entrypoints.console.page_setup import add_errors, add_looks
from allocation.entrypoints.console.sign_in import add_sign_in
from allocation.entrypoints.console.visitors import Visitors
from allocation.entrypoints.http import cursors
from allocation.entrypoints.http.cursors import cursor_at
from messaging.envelope import LONGEST_TEXT
from messaging.sql.log_reader import EventFilter

C = TypeVar("C", bound=tuple[Any, ...])

SKUS_A_PAGE = 25
EVENTS_A_PAGE = 50
BATCHES_A_PAGE = 100
BACKORDERS_A_PAGE = 50
BACKORDERS_OF_PRODUCT = 5
AT_RISK_A_PAGE = 50
BATCHES_OF_LIST = 50


def blueprint(service: Service, visitors: Visitors, streams: Streams) -> Blueprint:
    console = Blueprint("console", __name__, url_prefix="/console", template_folder="templates", static_folder="static")
    add_sign_in(console, visitors)
    add_looks(console)
    _add_stock(console, service)
    _add_feed(console, service, visitors, streams)
    add_dead_letters(console, service)
    add_errors(console)
    return console


# --- stock ----------------------------------------------------------------------


def _add_stock(console: Blueprint, service: Service) -> None:
    @console.get("")
    def stock() -> ResponseReturnValue:
        searched, after = normal(_text("q")), _text("after")
        waiting = service.waiting()
        return render_template(
            "console/stock.html",
            searched=searched,
            after=after,
            page=service.views.stock_list(searched, after, SKUS_A_PAGE),
            order=searched and (any(map(service.log.knows, forms(searched))) or service.views.order(searched)),
            batch=searched and service.views.batch(searched),
            events=[shown(entry) for entry in reversed(service.log.latest(NEWEST))],
            delivery=waiting.backlogs,
            dead=waiting.dead_messages + sum(backlog.dead for backlog in waiting.backlogs),
        )

    @console.get("/")
    def stock_by_another_name() -> ResponseReturnValue:
        query = urlencode(request.args.to_dict())
        return redirect(f"{url_for('console.stock')}?{query}".rstrip("?"), HTTPStatus.PERMANENT_REDIRECT)

    @console.get("/product")
    def product() -> ResponseReturnValue:
        sku, before = normal(_text("sku")), request.args.get("before", type=int)
        history = service.views.stock_history(sku, before, EVENTS_A_PAGE) if sku else None
        if history is None:
            raise NotFound(f"Nothing was ever purchased of a SKU {sku!r}.")
        return render_template(
            "console/product.html",
            history=history,
            figures=history.figures,
            before=before,
            batches=history.batches[:BATCHES_A_PAGE],
            largest=max((batch.qty for batch in history.batches), default=0),
            backorders=service.views.backorders(history.sku, None, BACKORDERS_OF_PRODUCT),
        )

    @console.get("/backorders")
    def backorders() -> ResponseReturnValue:
        sku, after = normal(_text("sku")), _end_of_page_before(cursors.BACKORDER)
        found, end = service.views.backorders(sku or None, after, BACKORDERS_A_PAGE)
        return render_template("console/backorders.html", sku=sku, after=after, backorders=found, end=cursor_at(end))

    @console.get("/at-risk")
    def at_risk() -> ResponseReturnValue:
        sku, after = normal(_text("sku")), _end_of_page_before(cursors.AT_RISK)
        found, end = service.views.at_risk(sku or None, after, AT_RISK_A_PAGE)
        return render_template("console/at_risk.html", sku=sku, after=after, lines=found, end=cursor_at(end))

    @console.get("/batches")
    def batches() -> ResponseReturnValue:
        quarantined, after = _text("quarantined") == "1", _end_of_page_before(cursors.BATCH)
        found, end = service.views.batches(
            None, after, BATCHES_OF_LIST, overdue=not quarantined, quarantined=quarantined
        )
        return render_template(
            "console/batches.html", quarantined=quarantined, after=after, batches=found, end=cursor_at(end)
        )

    @console.get("/order")
    def order() -> ResponseReturnValue:
        orderid = normal(_text("id"))
        found = service.views.order(orderid) if orderid else None
        of_each = (service.log.read(EventFilter(subject=form), None, EVENTS_A_PAGE + 1) for form in forms(orderid))
        events = next(filter(None, of_each), []) if orderid else []
        if not found and not events:
            raise NotFound(f"Nobody has asked for anything under the order {orderid!r}.")
        return render_template(
            "console/order.html",
            orderid=orderid,
            order=found,
            waits={one.lineid: one for one in service.views.backorders_of(orderid)} if found else {},
            events=[shown(entry) for entry in events[:EVENTS_A_PAGE]],
            has_more=len(events) > EVENTS_A_PAGE,
        )


def _end_of_page_before(kind: TypeAdapter[C]) -> C | None:
    """None for the first page, and for what leads nowhere."""
    try:
        return cursors.end_of(request.args.get("after", ""), kind)
    except ValueError:
        return None


def _text(name: str) -> str:
    """What is asked for; nothing that could not be stored."""
    given = request.args.get(name, "").strip()
    return given if len(given) <= LONGEST_TEXT and "\0" not in given else ""


# --- what happens meanwhile -----------------------------------------------------


def _add_feed(console: Blueprint, service: Service, visitors: Visitors, streams: Streams) -> None:
    @console.get("/events")
    def events() -> ResponseReturnValue:
        newest = newer(service.log.latest(NEWEST), _seen())
        return jsonify(events=[shown(entry) for entry in newest], has_stream=streams.have_room())

    @console.get("/events/stream")
    def events_as_they_come() -> ResponseReturnValue:
        if not streams.enter():
            refusal = jsonify(message="as many streams are open as may be; ask for /console/events now and then")
            refusal.status_code, refusal.headers["Retry-After"] = 503, "30"
            return refusal
        current = request._get_current_object()  # type: ignore[attr-defined]

        def may_see() -> bool:
            return visitors.who_asks(current).may(Scope.READ)

        body = stream(service.log.latest, _seen(), streams.wait, may_see)
        answer = Response(body, mimetype="text/event-stream")
        answer.headers["X-Accel-Buffering"] = "no"
        answer.call_on_close(streams.leave)
        return answer


def _seen() -> str | None:
    return request.headers.get("Last-Event-ID") or request.args.get("after")
