"""Orders: what each line has, what has left, and what came back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from flask import Blueprint, Response, g
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.commands import CancelOrder, ChangeLine, Dispatch, PlaceOrder, ReleaseLine, ReturnLine
from allocation.domain.lines import LineTerms
from allocation.entrypoints.http import cursors, problems
from allocation.entrypoints.http.cursors import cursor_at
from allocation.entrypoints.http.input import name_in_path
from allocation.entrypoints.http.problems import Shortage
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import REPLAYED, answer, found_or_404
from allocation.entrypoints.v1.queries import OfOrders, end_of, link_to
from allocation.service_layer.messages import ordering
from allocation.views import Line, Moved, Order, OrderCursor, OrderSummary, Promise
from messaging.envelope import Outcome

CommandAboutOrder: TypeAlias = ChangeLine | ReleaseLine | CancelOrder | Dispatch | ReturnLine

LARGEST_ORDER = 512 * 1024


@dataclass(frozen=True, slots=True)
class PlacedOrder(Order):
    """The order, and what became of the lines that were asked for: all of it is promised, some of it, or nothing."""

    outcome: Literal["allocated", "partly_allocated", "waiting"] = "allocated"


@dataclass(frozen=True, slots=True)
class ShortLine(Shortage):
    """And how much of it lines before it in the same order would take."""

    taken_by_this_order: int = 0


@dataclass(frozen=True, slots=True)
class Shortages:
    """Each line that there is not enough for."""

    orderid: str
    shortages: list[ShortLine]


@dataclass(frozen=True, slots=True)
class Orders:
    """A page of orders, in the order of their ids; `next` is the cursor of the next page, null on the last. Few or none
    may be on a page that has one behind it."""

    items: list[OrderSummary]
    next: str | None


@dataclass(frozen=True, slots=True)
class ChangedOrder(Order):
    """The order as it is now, and where the lines of others went that lost their place to it."""

    moved: list[Moved] = field(default_factory=list)


def _example(status: Literal["open", "cancelled"], promised: int, dispatched: int, returned: int = 0) -> ChangedOrder:
    promise = Promise("batch-1", promised, None, dispatched)
    qty = promised + dispatched + returned
    line = Line("line-1", "RED-CHAIR", qty, "batch-1", None, [promise], returned)
    return ChangedOrder("order-1", [line], status)


_ORDER = Order("order-1", [Line("line-1", "RED-CHAIR", 12, "batch-1", None, [Promise("batch-1", 7, None, 5)])])
_WAITS = Line("line-2", "TABLE", 1, None, None, [], waiting=1, position=3, needed_by=date(2031, 1, 15))
_PLACED = Answer(
    "Placed: the order as it is now.",
    PlacedOrder("order-1", [*_ORDER.lines, _WAITS], "open", "partly_allocated"),
    has_location=True,
)
_AGAIN = Answer("It was placed before: the order as it is now.", _PLACED.example, has_location=True)
_MOMENT = datetime(2030, 12, 1, 12, tzinfo=UTC)
_SUMMARY = OrderSummary("order-1", "open", _MOMENT, 2, 7, 1, 5, ["RED-CHAIR", "TABLE"])
_LISTED = Answer("A page.", Orders([_SUMMARY], cursor_at(OrderCursor("order-1"))))
_CHANGED = Answer("The order as it is now, and the lines that lost their place.", _example("open", 7, 5))
_CANCELLED = Answer("The order as it is now.", _example("cancelled", 0, 5))
_RELEASED = Answer(
    "The order as it is now.",
    ChangedOrder(
        "order-1",
        [Line("line-1", "RED-CHAIR", 0, None, None, []), Line("line-2", "SOFA", 1, "batch-7", date(2031, 1, 1), [])],
    ),
)
_DISPATCHED = Answer(
    "Recorded: the order as it is now, and the lines that lost their place to it.", _example("open", 7, 5)
)
_KNOWN = Answer("It was recorded before: the order as it is now.", _example("open", 7, 5))
_RETURNED = Answer("Recorded: the order as it is now.", _example("open", 7, 3, 2))


def _line(line: dict[str, Any]) -> Line:
    promises = [Promise(one["batchref"], one["qty"], _day(one["eta"]), one["dispatched"]) for one in line["promises"]]
    of_line = line["lineid"], line["sku"], promises, line["returned"], line["waiting"]
    further = {name: line[name] for name in ("priority", "at_risk")}
    return Line.of(*of_line, needed_by=_day(line["needed_by"]), **further)


def _day(stored: str | None) -> date | None:
    return date.fromisoformat(stored) if stored else None


def add_routes(v1: Blueprint, service: Service) -> None:
    def stored(orderid: str) -> Order:
        events = f"/v1/events?orderid={quote(orderid, safe='')}"
        return found_or_404(
            service.views.order(orderid), f"no line of order {orderid} was ever allocated, nor waits; see {events}"
        )

    def changed(command: CommandAboutOrder, message_id: str | None, when_new: int = 200) -> ResponseReturnValue:
        outcome = service.bus.outcome(command, g.metadata, message_id)
        moved = service.views.moved(outcome.unwrap())
        now = stored(command.orderid)
        return answer(ChangedOrder(now.orderid, now.lines, now.status, moved), when_new if outcome.changed else 200)

    def short_of(command: PlaceOrder, outcome: Outcome) -> Response | None:
        """The arithmetic is that of the moment after."""
        if outcome.result["outcome"] != "out_of_stock":
            return None
        short = outcome.result["shortages"]
        rooms = service.views.rooms({one["sku"] for one in short})
        lines = [ShortLine(orderid=command.orderid, **one, **asdict(rooms[one["sku"]])) for one in short]
        terms = LineTerms.of_order(command)
        detail = "; ".join(
            rooms[line.sku].falls_short_of(line.lineid, line.requested, line.taken_by_this_order, terms)
            for line in lines
        )
        if not outcome.changed:
            detail += f" by now; {REPLAYED}"
        return problems.answer(problems.OUT_OF_STOCK, detail, asdict(Shortages(command.orderid, lines)))

    @Route(
        v1,
        "POST",
        "/orders",
        Scope.ALLOCATE,
        {201: _PLACED, 200: _AGAIN},
        takes=ordering.PLACE_ORDER,
        raises=[problems.OUT_OF_STOCK],
        falls_short=short_of,
        largest_body=LARGEST_ORDER,
    )
    def place_order(command: PlaceOrder, message_id: str | None) -> ResponseReturnValue:
        """Place an order. Its lines are promised stock in one transaction. Its mode says what becomes of those that
        there is not enough for: nothing is promised, or each gets what there is, or each waits as a whole."""
        outcome = service.bus.outcome(command, g.metadata, message_id)
        result = outcome.unwrap()
        if problem := short_of(command, outcome):
            return problem
        positions: dict[str, int | None] = {}
        is_replayed = message_id is not None and not outcome.changed  # and who waited then may be elsewhere by now
        if not is_replayed and any(line["waiting"] for line in result["lines"]):
            positions = {line.lineid: line.position for line in stored(command.orderid).lines}
        lines = [replace(_line(line), position=positions.get(line["lineid"])) for line in result["lines"]]
        location = {"Location": f"/v1/orders/{quote(command.orderid, safe='')}"}
        placed = PlacedOrder(command.orderid, lines, result["status"], result["outcome"])
        return answer(placed, 201 if outcome.changed else 200, location)

    @Route(v1, "GET", "/orders", Scope.READ, {200: _LISTED}, query=OfOrders)
    def orders() -> ResponseReturnValue:
        """List orders. By their ids, each with how much is promised, waits and has left."""
        query = queries.read(OfOrders)
        after = end_of(query, cursors.ORDER)
        items, end = service.views.orders(after, query.limit, query.state, query.sku, query.since)
        following = cursor_at(end)
        return answer(Orders(items, following), headers=link_to(following))

    @Route(
        v1,
        "PATCH",
        "/orders/<any_text:orderid>/lines/<any_text:lineid>",
        Scope.ALLOCATE,
        {200: _CHANGED},
        takes=ordering.CHANGE_LINE,
    )
    def change_line(command: ChangeLine, message_id: str | None) -> ResponseReturnValue:
        """Change the quantity of an order line. It grows where it is, or moves as a whole, or is split if it may be;
        when it shrinks, what waits is given up first, then what is promised from the batches that are preferred
        least."""
        return changed(command, message_id)

    @Route(v1, "GET", "/orders/<any_text:orderid>", Scope.READ, {200: Answer("The order.", _ORDER)})
    def order(orderid: str) -> ResponseReturnValue:
        """Get an order. Its lines, each with what it has of which batch, the day on which that is expected, and how
        much waits at which place in the queue. A line that is out of stock is not among them: look for its events."""
        return answer(stored(name_in_path(orderid)))

    @Route(
        v1,
        "POST",
        "/orders/<any_text:orderid>/cancellation",
        Scope.ALLOCATE,
        {200: _CANCELLED},
        takes=ordering.CANCEL_ORDER,
    )
    def cancel_order(command: CancelOrder, message_id: str | None) -> ResponseReturnValue:
        """Cancel an order. What is promised to it is given back, and nothing more is promised to it. What has left
        stays so."""
        return changed(command, message_id)

    @Route(
        v1,
        "DELETE",
        "/orders/<any_text:orderid>/lines/<any_text:lineid>",
        Scope.ALLOCATE,
        {200: _RELEASED},
        takes=ordering.RELEASE_LINE,
    )
    def release_line(command: ReleaseLine, message_id: str | None) -> ResponseReturnValue:
        """Release an order line. What is promised to it is given back. What has left stays so."""
        return changed(command, message_id)

    @Route(
        v1,
        "POST",
        "/orders/<any_text:orderid>/dispatches",
        Scope.OPERATE,
        {201: _DISPATCHED, 200: _KNOWN},
        takes=ordering.DISPATCH,
        largest_body=LARGEST_ORDER,
    )
    def dispatch(command: Dispatch, message_id: str | None) -> ResponseReturnValue:
        """Dispatch a parcel. Goods of an order have left the warehouse, from the batches that its lines were promised
        from, or from those that the picker took them from."""
        return changed(command, message_id, when_new=201)

    @Route(
        v1,
        "POST",
        "/orders/<any_text:orderid>/returns",
        Scope.OPERATE,
        {201: _RETURNED, 200: _KNOWN},
        takes=ordering.RETURN_LINE,
    )
    def return_line(command: ReturnLine, message_id: str | None) -> ResponseReturnValue:
        """Take a return. Goods that had left are back in their batch, for sale or to be checked."""
        return changed(command, message_id, when_new=201)
