"""Orders: what each line has, what has left, and what came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Literal, TypeAlias
from urllib.parse import quote

from flask import Blueprint, g
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.commands import CancelOrder, Dispatch, ReleaseLine, ReturnLine
from allocation.entrypoints.http.input import name_in_path
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1.answers import answer, found_or_404
from allocation.service_layer.messages import ordering
from allocation.views import Line, Moved, Order, Promise

CommandAboutOrder: TypeAlias = ReleaseLine | CancelOrder | Dispatch | ReturnLine

LARGEST_PARCEL = 512 * 1024


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


def add_routes(v1: Blueprint, service: Service) -> None:
    def stored(orderid: str) -> Order:
        events = f"/v1/events?orderid={quote(orderid, safe='')}"
        return found_or_404(
            service.views.order(orderid), f"no line of order {orderid} was ever allocated; see {events}"
        )

    def changed(command: CommandAboutOrder, message_id: str | None, when_new: int = 200) -> ResponseReturnValue:
        outcome = service.bus.outcome(command, g.metadata, message_id)
        moved = service.views.moved(outcome.unwrap())
        now = stored(command.orderid)
        return answer(ChangedOrder(now.orderid, now.lines, now.status, moved), when_new if outcome.changed else 200)

    @Route(v1, "GET", "/orders/<any_text:orderid>", Scope.READ, {200: Answer("The order.", _ORDER)})
    def order(orderid: str) -> ResponseReturnValue:
        """Get an order. Its lines, each with what it has of which batch, and the day on which that is expected. A line
        that was never allocated is not among them: look for its events."""
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
        largest_body=LARGEST_PARCEL,
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
