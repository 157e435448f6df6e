"""Orders: the allocated lines of each."""

from __future__ import annotations

from urllib.parse import quote

from flask import Blueprint
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.entrypoints.http.input import name_in_path
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1.answers import answer, found_or_404
from allocation.views import AllocatedLine, Order

_ORDER = Order("order-1", [AllocatedLine("line-1", "RED-CHAIR", 12, "batch-1", None)])


def add_routes(v1: Blueprint, service: Service) -> None:
    @Route(v1, "GET", "/orders/<any_text:orderid>", Scope.READ, {200: Answer("The order.", _ORDER)})
    def order(orderid: str) -> ResponseReturnValue:
        """Get an order. Its allocated lines, each with its batch and the day on which that is expected. A line that is
        out of stock is not among them: look for its events."""
        events = f"/v1/events?orderid={quote(orderid, safe='')}"
        found = service.views.order(name_in_path(orderid))
        return answer(found_or_404(found, f"no line of order {orderid} is allocated; see {events}"))
