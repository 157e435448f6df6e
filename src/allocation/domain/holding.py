"""The rules of holds: how they are placed and extended, how they become a promise, and how they end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from allocation.domain import allocating
from allocation.domain.allocating import Objection
from allocation.domain.backordering import fill
from allocation.domain.commands import ConfirmHold, ExtendHold, PlaceHold, VoidHold
from allocation.domain.errors import (
    HoldConflict,
    HoldIsOver,
    LineConflict,
    NoRoom,
    NotEnough,
    OrderIsCancelled,
)
from allocation.domain.events import HoldEnded, HoldExtended, HoldPlaced
from allocation.domain.holds import Hold
from allocation.domain.lines import LineTerms, OrderLine
from allocation.domain.product import Product
from allocation.domain.values import WhyHoldEnded

LONGEST = timedelta(hours=4)
"""From now, however often a hold is extended."""


def place(product: Product, cmd: PlaceHold) -> Hold:
    """Hold so much of the best batch that has room. The same hold again is as it was.

    Raises InvalidSku, HoldConflict, NoRoom.
    """
    product.require_known()
    if there := product.holds.get((product.sku, cmd.hold_id)):
        if there.qty != cmd.qty:
            raise HoldConflict(there)
        return there
    pieces = allocating.choose(product, cmd.qty)
    if not pieces:
        raise NoRoom.for_hold(product.sku, cmd.qty, allocating.largest_room(product))
    [(batch, qty)] = pieces
    until = product.now() + timedelta(seconds=cmd.seconds)
    product.record(HoldPlaced(cmd.hold_id, product.sku, qty, batch.reference, until))
    return _known(product, cmd.hold_id)


def extend(product: Product, cmd: ExtendHold) -> Hold:
    """Hold it for so many seconds from now, if that is longer than it is held anyway. Raises HoldIsOver."""
    hold = _known(product, cmd.hold_id)
    until = min(max(hold.until, product.now() + timedelta(seconds=cmd.seconds)), product.now() + LONGEST)
    if until > hold.until:
        product.record(HoldExtended(hold.hold_id, hold.sku, until))
    return _known(product, cmd.hold_id)


def void(product: Product, cmd: VoidHold) -> None:
    """Give it up; nothing changes when it has ended already."""
    if hold := product.holds.get((product.sku, cmd.hold_id)):
        end(product, hold, "voided")


def confirm(product: Product, cmd: ConfirmHold) -> None:
    """Promise so much of what is held to an order line, from the batch in which it is held; the rest is free. A line
    that has just that already stays as it is; one that waits for just that gets it.

    Raises LineConflict, OrderIsCancelled, HoldIsOver, NotEnough.
    """
    line = OrderLine(cmd.orderid, cmd.sku, cmd.qty, cmd.lineid)
    placed = product.lines.get(line.key)
    waits = placed is not None and placed.waiting > 0
    if placed and placed.qty:
        if not placed.is_same(line.sku, line.qty) or placed.waiting not in {0, line.qty}:
            raise LineConflict(placed)
        if not waits:
            return
    if product.lines.is_cancelled(line.orderid):
        raise OrderIsCancelled(line.orderid)
    hold = _known(product, cmd.hold_id)
    batch = product.batches[hold.batchref]
    terms = placed.terms if placed and waits else LineTerms(cmd.priority, cmd.needed_by, waits=True)
    if allocating.objection_to(product, batch, terms) is Objection.EXPIRED:
        raise HoldIsOver.with_expired_goods(hold, batch)
    if cmd.qty > hold.qty:
        raise NotEnough(f"{cmd.qty} of hold {hold.hold_id}: {hold.qty} are held", hold.qty)
    end(product, hold, "confirmed")
    allocating.record_allocated(product, line, terms, batch, cmd.qty, waited=waits)


def end_due(product: Product, due: Iterable[Hold]) -> None:
    """Have these be free: they have run out, the first first, and those who wait are served from each before the next
    one ends. It is recorded together with the next event, if there is one."""
    with product.tentatively():
        for hold in due:
            product.note_revision(product.batches[hold.batchref])
            end(product, hold, "expired")
            fill(product)


def end(product: Product, hold: Hold, why: WhyHoldEnded) -> None:
    product.record(HoldEnded(hold.hold_id, hold.sku, hold.qty, hold.batchref, why))


def _known(product: Product, hold_id: str) -> Hold:
    """Raises HoldIsOver."""
    hold = product.holds.get((product.sku, hold_id))
    if hold is None:
        raise HoldIsOver(product.sku, hold_id)
    return hold
