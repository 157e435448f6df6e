"""Products: what there is of each SKU, what is to come, and when a line could have it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from flask import Blueprint, g
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.commands import PullForward
from allocation.domain.errors import InvalidSku
from allocation.domain.explaining import Candidate, Earliest, Explanation
from allocation.entrypoints.http import cursors
from allocation.entrypoints.http.cursors import cursor_at
from allocation.entrypoints.http.input import name_in_path
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer, found_or_404
from allocation.entrypoints.v1.queries import (
    OfAvailability,
    OfExplanation,
    OfLine,
    Page,
    end_of,
    link_to,
)
from allocation.service_layer.messages import due_dates
from allocation.views import Availability, Day, Incoming, Moved, OnHand, Overdue, ProductCursor, Stock, Waiting


@dataclass(frozen=True, slots=True)
class Products:
    """A page of SKUs, in their order; `next` is the cursor of the next page, null on the last."""

    items: list[Stock]
    next: str | None


@dataclass(frozen=True, slots=True)
class Availabilities:
    """Those that were ever purchased, in the order in which they were asked for, and the names of the others."""

    items: list[Availability]
    unknown: list[str]


@dataclass(frozen=True, slots=True)
class PulledForward:
    """Which promises have moved."""

    moved: list[Moved]


_MOVED: Moved = {
    "orderid": "order-2",
    "lineid": "line-1",
    "sku": "RED-CHAIR",
    "qty": 1,
    "from": "by-ship",
    "to": "on-shelf",
    "outcome": "moved",
}
_PULLED = Answer("Which promises have moved; none when nothing fits.", PulledForward([_MOVED]))
_STOCK = Stock("RED-CHAIR", 20, 12, 8, [Incoming(date(2031, 1, 1), 100, 0, 100)])

_EXPLANATION = Answer(
    "Which batch it would get, and why not the others.",
    Explanation(
        "by-ship",
        [
            Candidate("on-shelf", 3, "passed over", "3 available, 8 asked for, a line goes whole to one batch"),
            Candidate("by-ship", 100, "taken", "has room for all 8"),
        ],
    ),
)
_AVAILABILITY = Availability(
    "RED-CHAIR",
    OnHand(12, 4, 8, 0, 0, 3),
    [Day(date(2031, 1, 1), 5, 9, 9), Day(date(2031, 3, 14), 20, 15, 24)],
    [Overdue("by-ship", date(2030, 12, 27), 5)],
    Waiting(1, 30),
    17,
    datetime(2031, 1, 1, 12, tzinfo=UTC),
    Earliest(date(2031, 3, 14), "by-ship-2"),
)
_AVAILABLE = Answer("What can be had of it.", _AVAILABILITY)
_ALL_AVAILABLE = Answer("What can be had of each.", Availabilities([_AVAILABILITY], ["RED-CHAIRS"]))
_PAGE = Answer("A page.", Products([_STOCK], cursor_at(ProductCursor("RED-CHAIR"))))
_FOUND = Answer("The product.", _STOCK)


def add_routes(v1: Blueprint, service: Service) -> None:
    @Route(v1, "GET", "/products", Scope.READ, {200: _PAGE}, query=Page)
    def products() -> ResponseReturnValue:
        """List products. SKUs in their order, each with what is in the warehouse and what is to come."""
        page = queries.read(Page)
        items, end = service.views.products(end_of(page, cursors.PRODUCT), page.limit)
        following = cursor_at(end)
        return answer(Products(items, following), headers=link_to(following))

    @Route(v1, "GET", "/products/<any_text:sku>", Scope.READ, {200: _FOUND})
    def product(sku: str) -> ResponseReturnValue:
        """Get a product. What is on hand, promised and available now, and what is to come by day."""
        return answer(found_or_404(service.views.product(name_in_path(sku)), f"no batch of {sku} was ever added"))

    @Route(
        v1,
        "POST",
        "/products/<any_text:sku>/pull-forward",
        Scope.OPERATE,
        {200: _PULLED},
        takes=due_dates.PULL_FORWARD,
    )
    def pull_forward(command: PullForward, message_id: str | None) -> ResponseReturnValue:
        """Pull promises forward. Those of batches that come later move to this one, each as a whole that fits, and who
        would lose it last comes first. What is free by that goes to those who wait."""
        return answer(PulledForward(**service.bus.handle(command, g.metadata, message_id)))

    @Route(v1, "GET", "/products/<any_text:sku>/explain", Scope.READ, {200: _EXPLANATION}, query=OfExplanation)
    def explain(sku: str) -> ResponseReturnValue:
        """Explain an allocation. Which batch a line would get now, and for each other one that is open why not, by the
        rule that decides. Nothing changes."""
        query, name = queries.read(OfExplanation), name_in_path(sku)
        try:
            return answer(service.explain(name, query.qty, query.terms))
        except InvalidSku as unknown:
            raise NotFound(f"no batch of {sku} was ever added") from unknown

    @Route(v1, "GET", "/products/<any_text:sku>/availability", Scope.READ, {200: _AVAILABLE}, query=OfLine)
    def availability(sku: str) -> ResponseReturnValue:
        """Get the availability by date. What can be had of a SKU today, and from each day on which something comes.
        With `qty`, when a line of so many could have it at the earliest, and of which batch, by the rule that decides.
        Nothing is sold."""
        query = queries.read(OfLine)
        [found] = service.views.availability([name_in_path(sku)], query.qty, query.terms)
        return answer(found_or_404(found, f"no batch of {sku} was ever added"))

    @Route(v1, "GET", "/availability", Scope.READ, {200: _ALL_AVAILABLE}, query=OfAvailability)
    def availability_of_many() -> ResponseReturnValue:
        """Get the availability of many products. Of up to 200 SKUs at one moment, in the order in which they are asked
        for. With `qty`, when a line of so many of each could have it."""
        query = queries.read(OfAvailability)
        found = service.views.availability(query.sku, query.qty, query.terms)
        unknown = [str(sku) for sku, one in zip(query.sku, found, strict=True) if one is None]
        return answer(Availabilities([one for one in found if one], unknown))
