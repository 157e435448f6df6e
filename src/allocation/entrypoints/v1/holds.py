"""Holds: stock that is kept for a cart or a checkout, for nobody's line yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, g
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.commands import ConfirmHold, ExtendHold, PlaceHold, VoidHold
from allocation.entrypoints.http import cursors
from allocation.entrypoints.http.cursors import cursor_at
from allocation.entrypoints.http.input import name_in_path
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer, found_or_404
from allocation.entrypoints.v1.queries import OfHold, OfHolds, OneHold, end_of_sku, link_to
from allocation.service_layer.messages import holds as of_holds
from allocation.views import Hold, HoldCursor, Line, Order, Promise


@dataclass(frozen=True, slots=True)
class Holds:
    """A page of what is held, by SKU and id; `next` is the cursor of the next page, null on the last."""

    items: list[Hold]
    next: str | None


_HOLD = Hold("cart-9", "RED-CHAIR", 2, "batch-1", datetime(2031, 1, 1, 10, 10, tzinfo=UTC))
_PLACED = Answer("Held.", _HOLD, has_location=True)
_THERE = Answer("It was held before, until the instant of then.", _HOLD, has_location=True)
_EXTENDED = Answer("What is held, until when.", _HOLD)
_LISTED = Answer("A page.", Holds([_HOLD], cursor_at(HoldCursor("RED-CHAIR", "cart-9"))))
_LINE = Line("line-1", "RED-CHAIR", 2, "batch-1", None, [Promise("batch-1", 2, None, 0)])
_CONFIRMED = Answer("The line has what was held: its order as it is now.", Order("order-1", [_LINE], "open"))
_KNOWN = Answer("The line had it before: its order as it is now.", _CONFIRMED.example)
_VOIDED = Answer("Nothing is held under this id any more.", None)


def add_routes(v1: Blueprint, service: Service) -> None:
    def held(result: dict[str, Any]) -> Hold:
        return Hold(**{**result, "until": datetime.fromisoformat(result["until"])})

    @Route(v1, "POST", "/holds", Scope.ALLOCATE, {201: _PLACED, 200: _THERE}, takes=of_holds.PLACE_HOLD)
    def place_hold(command: PlaceHold, message_id: str | None) -> ResponseReturnValue:
        """Hold stock. For a while, for nobody's line yet; when the time is over it is free by itself. The same hold
        again stays as it is."""
        outcome = service.bus.outcome(command, g.metadata, message_id)
        hold = held(outcome.unwrap())
        address = f"/v1/holds/{quote(hold.hold_id, safe='')}?{urlencode({'sku': hold.sku})}"
        return answer(hold, 201 if outcome.changed else 200, {"Location": address})

    @Route(v1, "GET", "/holds", Scope.READ, {200: _LISTED}, query=OfHolds)
    def list_holds() -> ResponseReturnValue:
        """List holds. What is held now, by SKU and id; one that has run out is not among them."""
        query = queries.read(OfHolds)
        items, end = service.views.holds(query.sku, end_of_sku(query, cursors.HOLD), query.limit)
        following = cursor_at(end)
        return answer(Holds(items, following), headers=link_to(following))

    @Route(v1, "GET", "/holds/<any_text:hold_id>", Scope.READ, {200: Answer("The hold.", _HOLD)}, query=OneHold)
    def get_hold(hold_id: str) -> ResponseReturnValue:
        """Get a hold. What is held of the SKU under this id, and until when."""
        sku = queries.read(OneHold).sku
        return answer(found_or_404(service.views.hold(name_in_path(hold_id), sku), f"{hold_id} holds nothing of {sku}"))

    @Route(
        v1,
        "POST",
        "/holds/<any_text:hold_id>/confirmation",
        Scope.ALLOCATE,
        {201: _CONFIRMED, 200: _KNOWN},
        takes=of_holds.CONFIRM_HOLD,
    )
    def confirm_hold(command: ConfirmHold, message_id: str | None) -> ResponseReturnValue:
        """Confirm a hold. What is held is promised to an order line, from the batch in which it is held; what it does
        not take is free."""
        outcome = service.bus.outcome(command, g.metadata, message_id)
        outcome.unwrap()
        order = found_or_404(service.views.order(command.orderid), f"no line of order {command.orderid} is known")
        return answer(order, 201 if outcome.changed else 200)

    @Route(
        v1,
        "POST",
        "/holds/<any_text:hold_id>/extension",
        Scope.ALLOCATE,
        {200: _EXTENDED},
        takes=of_holds.EXTEND_HOLD,
    )
    def extend_hold(command: ExtendHold, message_id: str | None) -> ResponseReturnValue:
        """Extend a hold. So many seconds from now, if that is longer; four hours from now at most."""
        return answer(held(service.bus.handle(command, g.metadata, message_id)))

    @Route(
        v1,
        "DELETE",
        "/holds/<any_text:hold_id>",
        Scope.ALLOCATE,
        {204: _VOIDED},
        takes=of_holds.VOID_HOLD,
        query=OfHold,
    )
    def void_hold(command: VoidHold, message_id: str | None) -> ResponseReturnValue:
        """Give up a hold. Also one that has ended already: then nothing changes."""
        service.bus.handle(command, g.metadata, message_id)
        nothing = Response(status=204)
        del nothing.headers["Content-Type"]
        return nothing
