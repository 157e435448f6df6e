"""Allocations: an order line is promised stock, or refused with the arithmetic by which there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from urllib.parse import quote

from flask import Blueprint, Response, g
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.commands import Allocate
from allocation.entrypoints.http import problems
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1.answers import REPLAYED, answer, found_or_404
from allocation.service_layer.messages import ordering
from allocation.views import Room
from messaging.envelope import Outcome


@dataclass(frozen=True, slots=True)
class Allocation:
    """A line that was promised stock; `eta` null: from the warehouse."""

    orderid: str
    lineid: str
    sku: str
    qty: int
    batchref: str
    eta: date | None


_ALLOCATION = Allocation("order-1", "line-1", "RED-CHAIR", 12, "batch-1", None)
_ALLOCATED = Answer("Allocated.", _ALLOCATION, has_location=True)
_EXISTED = Answer("It was allocated before.", _ALLOCATION, has_location=True)


def add_routes(v1: Blueprint, service: Service) -> None:
    def out_of_stock(command: Allocate, outcome: Outcome, *, has_key: bool = False) -> Response | None:
        if outcome.result is not None:
            return None
        return _out_of_stock(command, service.views.room(command.sku), outcome.changed, has_key)

    @Route(
        v1,
        "POST",
        "/allocations",
        Scope.ALLOCATE,
        {201: _ALLOCATED, 200: _EXISTED},
        takes=ordering.ALLOCATE,
        raises=[problems.OUT_OF_STOCK],
        falls_short=out_of_stock,
    )
    def allocate(command: Allocate, message_id: str | None) -> ResponseReturnValue:
        """Allocate an order line. From the best batch that has room: warehouse first, then the earliest delivery. The
        whole line or nothing."""
        outcome = service.bus.outcome(command, g.metadata, message_id)
        ref = outcome.unwrap()
        if problem := out_of_stock(command, outcome, has_key=message_id is not None):
            return problem
        batch = found_or_404(service.views.batch(ref), f"no batch has the reference {ref}")
        made = Allocation(command.orderid, command.lineid, command.sku, command.qty, ref, batch.eta)
        location = {"Location": f"/v1/orders/{quote(command.orderid, safe='')}"}
        return answer(made, 201 if outcome.changed else 200, location)


def _out_of_stock(command: Allocate, room: Room, is_first_answer: bool, has_key: bool) -> Response:
    """The arithmetic is that of the moment after: what has come in between is said to have come.

    The same Idempotency-Key can only get the same answer, so whoever has sent one is never told to repeat it.
    """
    detail = f"requested {command.qty}; {room.arithmetic}"
    if not is_first_answer:
        detail += " by now"
    elif room.largest >= command.qty:
        detail += f", since just now: ask again{', with another Idempotency-Key' if has_key else ''}"
    if room.largest < command.qty <= room.available:
        detail += f", at most {room.largest} in one batch"
    if room.next_eta:
        detail += f"; next eta {room.next_eta}"
    if not is_first_answer:
        detail += f"; {REPLAYED}"
    shortage = problems.Shortage(command.orderid, command.lineid, command.sku, command.qty, **asdict(room))
    return problems.answer(problems.OUT_OF_STOCK, detail, asdict(shortage))
