"""The rules of whole orders: all their lines at once, and lines that change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from allocation.domain import allocating
from allocation.domain.allocating import Pieces
from allocation.domain.backordering import fill
from allocation.domain.batches import Batch
from allocation.domain.commands import ChangeLine, PlaceOrder
from allocation.domain.errors import (
    BelowDispatched,
    LineConflict,
    NoRoom,
    OrderIsCancelled,
    StaleQuantity,
)
from allocation.domain.events import OutOfStock
from allocation.domain.holding import end
from allocation.domain.holds import Hold, HoldKey
from allocation.domain.lines import LineTerms, OrderLine, PlacedLine
from allocation.domain.ordering import give_up, record_released
from allocation.domain.product import Product


@dataclass(frozen=True, slots=True)
class Planned:
    """What a line would get, where so much of what is available of its SKU is `taken` by lines before it in the same
    order, and its `hold` is given back."""

    product: Product
    line: OrderLine
    pieces: Pieces
    taken: int
    hold: Hold | None

    @property
    def short(self) -> int:
        return self.line.qty - sum(qty for _, qty in self.pieces)


def place_order(cmd: PlaceOrder, known: Sequence[PlacedLine], product_of: Callable[[str], Product]) -> list[Planned]:
    """Promise stock to the lines that are not `known` of the order, or have nothing left. Of an order that is all or
    nothing, nothing is promised when any line is short: returns those that are.

    Raises InvalidSku, LineConflict, OrderIsCancelled; then nothing has changed.
    """
    products = {sku: product_of(sku) for sku in sorted({line.sku for line in cmd.lines})}
    for product in products.values():
        product.require_known()
    if next(iter(products.values())).lines.is_cancelled(cmd.orderid):
        raise OrderIsCancelled(cmd.orderid)
    terms = LineTerms.of_order(cmd)
    plan = list(_plan(products, list(_new_among(cmd, known)), terms))
    short = [planned for planned in plan if planned.short]
    if short and cmd.mode == "all_or_nothing":
        for planned in short:
            line = planned.line
            planned.product.record(OutOfStock(line.orderid, line.sku, line.qty, line.lineid))
        return short
    for hold in dict.fromkeys(planned.hold for planned in plan if planned.hold):
        end(products[hold.sku], hold, "confirmed")
    for planned in plan:
        allocating.promise(planned.product, planned.line, terms, planned.pieces)
    for product in products.values():  # what their holds had beyond that goes to those who wait, these lines among them
        fill(product)
    return []


def _new_among(cmd: PlaceOrder, known: Sequence[PlacedLine]) -> Iterator[tuple[OrderLine, str | None]]:
    """Each with the id of its hold."""
    by_id = {line.lineid: line for line in known if line.qty}
    for ordered in cmd.lines:
        placed = by_id.get(ordered.lineid)
        if placed is None:
            yield OrderLine(cmd.orderid, ordered.sku, ordered.qty, ordered.lineid), ordered.hold
        elif not placed.is_same(ordered.sku, ordered.qty):
            raise LineConflict(placed)


@dataclass(frozen=True, slots=True)
class _Claims:
    """What lines would get before anything is recorded: it is not there for those that come after them."""

    by_batch: Counter[str] = field(default_factory=Counter)
    by_sku: Counter[str] = field(default_factory=Counter)
    of_holds: Counter[HoldKey] = field(default_factory=Counter)
    """So much of what was held, which is not available to others anyway."""

    def add(self, planned: Planned) -> None:
        hold = planned.hold
        for batch, qty in planned.pieces:
            of_hold = min(qty, self._left_of(hold)) if hold and batch.reference == hold.batchref else 0
            if hold:
                self.of_holds[hold.key] += of_hold
            self.by_batch[batch.reference] += qty - of_hold
            self.by_sku[planned.line.sku] += qty - of_hold

    def taken(self, hold: Hold | None) -> Mapping[str, int]:
        """By batch; to whoever has the hold, what is left of it is available too."""
        if hold is None:
            return self.by_batch
        taken = self.by_batch.copy()
        taken[hold.batchref] -= self._left_of(hold)
        return taken

    def _left_of(self, hold: Hold) -> int:
        return hold.qty - self.of_holds[hold.key]


def _plan(
    products: dict[str, Product], lines: Sequence[tuple[OrderLine, str | None]], terms: LineTerms
) -> Iterator[Planned]:
    """Each line has what those before it leave, and what is held for it: of that, others have nothing. Nothing
    changes."""
    claims = _Claims()
    for line, hold_id in lines:
        product = products[line.sku]
        hold = product.holds.get((line.sku, hold_id)) if hold_id else None
        first = product.batches[hold.batchref] if hold else None
        pieces = allocating.choose(product, line.qty, terms, taken=claims.taken(hold), first=first)
        planned = Planned(product, line, pieces, claims.by_sku[line.sku], hold)
        claims.add(planned)
        yield planned


def change_line(product: Product, line: PlacedLine, cmd: ChangeLine) -> int | None:
    """Have a line be of so many, and return the version at which that is recorded; None when it is already.

    Raises StaleQuantity, BelowDispatched, NoRoom, OrderIsCancelled; then nothing has changed.
    """
    if cmd.expected is not None and line.qty != cmd.expected:
        raise StaleQuantity.of_line(line, cmd.expected)
    if cmd.qty < line.dispatched + line.returned:
        raise BelowDispatched.of_line(line)
    first = product.version_number + 1
    if cmd.qty < line.qty:
        _reduce(product, line, line.qty - cmd.qty)
    elif cmd.qty > line.qty:
        if product.lines.is_cancelled(line.orderid):
            raise OrderIsCancelled(line.orderid)
        _extend(product, line, cmd.qty - line.qty)
    return first if product.version_number >= first else None


def _reduce(product: Product, line: PlacedLine, by: int) -> None:
    """What waits first, then what is promised from the batches that are preferred least. What then still waits may fit
    now."""
    if waiting := min(by, line.waiting):
        record_released(product, line, waiting, None, "changed")
        by -= waiting
    give_up(product, line, by, line.promises, "changed")
    left = product.lines[line.key].waiting
    for batch, qty in allocating.choose(product, left, line.terms) if left else ():
        allocating.record_allocated(product, line, line.terms, batch, qty, waited=True)


def _extend(product: Product, line: PlacedLine, by: int) -> None:
    """Where it is, if there is room; else all of it from another batch; else in parts, where it may be split. One that
    waits as a whole waits for more. Raises NoRoom."""
    more = OrderLine(line.orderid, line.sku, by, line.lineid)
    if line.waiting and not line.promised:
        allocating.backorder(product, more, line.terms, line.since)
    elif line.qty and (batch := _where_it_is(product, line, by)):
        allocating.record_allocated(product, line, line.terms, batch, by)
    elif line.qty and (batch := _where_all_fits(product, line, by)):
        _move(product, line, batch, by)
    elif line.qty and line.terms.may_split:
        allocating.promise(product, more, line.terms, allocating.choose(product, by, line.terms), line.since)
    else:
        raise NoRoom.for_line(line, by, allocating.largest_room(product, line.terms))


def _where_it_is(product: Product, line: PlacedLine, more: int) -> Batch | None:
    batches = [product.batches[one.batchref] for one in line.promises]
    for batch in sorted(batches, key=attrgetter("preference")):
        if batch.available_quantity >= more and not allocating.objection_to(product, batch, line.terms):
            return batch
    return None


def _where_all_fits(product: Product, line: PlacedLine, more: int) -> Batch | None:
    """Another batch with room for all that is promised and for more."""
    pieces = allocating.choose(product, line.promised + more, replace(line.terms, may_split=False))
    return pieces[0][0] if pieces else None


def _move(product: Product, line: PlacedLine, batch: Batch, more: int) -> None:
    for one in line.promises:
        record_released(product, line, one.promised, one.batchref, "moved")
    allocating.record_allocated(product, line, line.terms, batch, line.promised + more)
