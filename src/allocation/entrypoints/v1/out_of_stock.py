"""What is said of a line that no batch has room for: the arithmetic, and how to try again."""

from __future__ import annotations

from dataclasses import asdict

from flask import Response

from allocation.domain.lines import OrderLine
from allocation.entrypoints.v1 import problems
from allocation.views import Room

_IT_STANDS = "this is the first answer to this Idempotency-Key again, and stands: to try anew send another key, or none"


def out_of_stock(line: OrderLine, room: Room, *, is_first_answer: bool, has_key: bool) -> Response:
    """The arithmetic is that of the moment after: what has come in between is said to have come.

    The same Idempotency-Key can only get the same answer, so whoever has sent one is never told to ask again with it.
    """
    detail = (
        f"requested {line.qty}; purchased {room.purchased} − allocated {room.allocated} = {room.available} available"
    )
    if not is_first_answer:
        detail += " by now"
    elif room.largest >= line.qty:
        detail += f", since just now: ask again{', with another Idempotency-Key' if has_key else ''}"
    if room.largest < line.qty <= room.available:
        detail += f", at most {room.largest} in one batch"
    if room.next_eta:
        detail += f"; next eta {room.next_eta}"
    if not is_first_answer:
        detail += f"; {_IT_STANDS}"
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
