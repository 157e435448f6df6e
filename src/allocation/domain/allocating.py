"""The rule of allocation: which batches a line is promised from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from itertools import chain
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from allocation.domain.batches import Batch
from allocation.domain.errors import LineConflict, OrderIsCancelled
from allocation.domain.events import Allocated, Backordered, OutOfStock
from allocation.domain.lines import SINGLE_LINE, LineTerms, OrderLine, PlacedLine, is_too_late
from allocation.domain.product import Product

T = TypeVar("T")

Pieces: TypeAlias = list[tuple[Batch, int]]
"""So much of each batch."""

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Objection(Enum):
    """Why a batch is passed over."""

    EXPIRED = auto()
    ELSEWHERE = auto()
    TOO_LATE = auto()
    EMPTY = auto()
    TOO_SMALL = auto()


def allocate(product: Product, line: OrderLine) -> str | None:
    """Promise the line from the best batch that has room, and return its reference; None: out of stock.

    A line that is allocated already keeps its batch, and nothing changes. Raises InvalidSku, OrderIsCancelled,
    LineConflict.
    """
    product.require_known()
    if product.lines.is_cancelled(line.orderid):
        raise OrderIsCancelled(line.orderid)
    placed = product.lines.get(line.key)
    if placed and placed.qty:
        if placed.waiting or not placed.is_same(line.sku, line.qty):
            raise LineConflict(placed)
        return placed.allocations[0].batchref if placed.allocations else None
    pieces = choose(product, line.qty)
    promise(product, line, SINGLE_LINE, pieces)
    return pieces[0][0].reference if pieces else None


def place_again(product: Product, line: OrderLine) -> None:
    """Promise what was lost from other batches. A line that waits goes back to its old place in the queue for what fits
    nowhere; one that does not wait is out of stock."""
    known = product.lines[line.key]
    promise(product, line, known.terms, choose(product, line.qty, known.terms), known.since)


def promise(product: Product, line: OrderLine, terms: LineTerms, pieces: Pieces, since: int = 0) -> None:
    """Promise these pieces to the line. What is missing is backordered, or out of stock. `since` is its turn; 0 for a
    new line, whose turn is the version that is recorded next."""
    since = since or product.version_number + 1
    left = line.qty
    for batch, qty in pieces:
        record_allocated(product, line, terms, batch, qty)
        left -= qty
    if left and terms.waits:
        backorder(product, replace(line, qty=left), terms, since)
    elif left:
        product.record(OutOfStock(line.orderid, line.sku, left, line.lineid))


def backorder(product: Product, line: OrderLine, terms: LineTerms, since: int) -> None:
    of_line = terms.priority, terms.needed_by, terms.may_split, terms.locations
    product.record(Backordered(line.orderid, line.sku, line.qty, line.lineid, since, *of_line))


def record_allocated(  # noqa: PLR0917 - what the event says
    product: Product, line: OrderLine | PlacedLine, terms: LineTerms, batch: Batch, qty: int, waited: bool = False
) -> None:
    of_line = terms.priority, terms.needed_by, terms.may_split, terms.waits, terms.locations
    product.record(Allocated(line.orderid, line.sku, qty, batch.reference, line.lineid, *of_line, waited=waited))


def choose(
    product: Product,
    qty: int,
    terms: LineTerms = SINGLE_LINE,
    *,
    taken: Mapping[str, int] = _NOTHING,
    among: Sequence[Batch] | None = None,
    first: Batch | None = None,
) -> Pieces:
    """All of it from the preferred batch that has room for it; else, for a line that may be split, what the preferred
    ones have. `taken`: what is spoken for already, by batch reference. `among`: only these batches, the preferred
    first. `first`: a batch preferred to all others."""
    parts: Pieces = []
    candidates = examine(product, qty, terms, taken, among)
    if first:
        others = (one for one in candidates if one[0] is not first)
        candidates = chain(examine(product, qty, terms, taken, [first]), others)
    for batch, room, objection in candidates:
        if objection:
            continue
        if room >= qty:
            return [(batch, qty)]
        parts.append((batch, room))
    return list(spread(qty, parts))


def spread(qty: int, over: Iterable[tuple[T, int]]) -> Iterator[tuple[T, int]]:
    """Of each as much as there is, in this order, until it is `qty`."""
    for one, there_is in over:
        if part := min(qty, there_is):
            yield one, part
            qty -= part


def examine(
    product: Product,
    qty: int,
    terms: LineTerms,
    taken: Mapping[str, int] = _NOTHING,
    among: Sequence[Batch] | None = None,
) -> Iterator[tuple[Batch, int, Objection | None]]:
    """Every open batch, the preferred first, with the room that it has, and why it can't serve the line, if so."""
    for batch in _preferred(product, terms.locations, among):
        room = batch.available_quantity - taken.get(batch.reference, 0)
        objection = objection_to(product, batch, terms)
        if objection is None and room < qty:
            objection = Objection.EMPTY if room <= 0 else None if terms.may_split else Objection.TOO_SMALL
        yield batch, room, objection


def _preferred(product: Product, locations: tuple[str, ...], among: Sequence[Batch] | None) -> Iterator[Batch]:
    def every() -> Iterable[Batch]:
        return product.batches.preferred(product.sku) if among is None else among

    if not locations:
        yield from every()
        return
    for place in locations:
        yield from (batch for batch in every() if batch.location == place)
    yield from (batch for batch in every() if batch.location not in locations)


def largest_room(product: Product, terms: LineTerms = SINGLE_LINE) -> int:
    """The most that one batch has for such a line."""
    return max((room for _, room, objection in examine(product, 1, terms) if not objection), default=0)


def objection_to(product: Product, batch: Batch, terms: LineTerms) -> Objection | None:
    """Why nothing of it may go to such a line, whatever room it has. What has expired is not for sale."""
    if product.is_expired(batch):
        return Objection.EXPIRED
    if terms.locations and batch.location not in terms.locations:
        return Objection.ELSEWHERE
    if terms.needed_by and batch.eta and is_too_late(batch.eta, terms.needed_by, product.today()):
        return Objection.TOO_LATE
    return None
