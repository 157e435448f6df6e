"""The rules of orders: what is given back, what leaves, and what comes back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from allocation.domain import documents
from allocation.domain.allocating import record_allocated, spread
from allocation.domain.batches import Batch
from allocation.domain.breaking import break_newest
from allocation.domain.commands import Dispatch, ParcelLine, ReturnLine
from allocation.domain.errors import DocumentConflict, NotArrived, NotEnough, OrderIsComplete, UnknownOrder
from allocation.domain.events import Dispatched, LineReleased, OrderCancelled, Quarantined, Returned
from allocation.domain.lines import Allocation, PlacedLine
from allocation.domain.product import Product
from allocation.domain.receiving import batch_of
from allocation.domain.values import WhyReleased

Status: TypeAlias = Literal["open", "complete", "cancelled", "empty"]
"""Of an order: something is promised or waits; all that is left has been dispatched; cancelled; nothing is left."""


def release_line(product: Product, line: PlacedLine, why: Literal["released", "cancelled"] = "released") -> int | None:
    """Give back all that is promised to it, wait for no more, and return the version at which that is recorded; None
    when it is nothing. What has left stays so."""
    first = product.version_number + 1
    for one in line.promises:
        record_released(product, line, one.promised, one.batchref, why)
    if line.waiting:
        record_released(product, line, line.waiting, None, why)
    return first if product.version_number >= first else None


def cancel(orderid: str, lines: Sequence[PlacedLine], product_of: Callable[[str], Product]) -> dict[str, int]:
    """Close the order in each of its products, and give back what is promised to it. Returns the versions at which that
    is recorded, by SKU; none when it was cancelled before. Raises UnknownOrder, OrderIsComplete."""
    if not lines:
        raise UnknownOrder(orderid)
    products = {sku: product_of(sku) for sku in sorted({line.sku for line in lines})}
    if next(iter(products.values())).lines.is_cancelled(orderid):
        return {}
    if status_of_lines(lines) == "complete":
        raise OrderIsComplete(orderid, sum(line.dispatched for line in lines))
    places = {sku: product.version_number + 1 for sku, product in products.items()}
    for sku, product in products.items():
        product.record(OrderCancelled(orderid, sku))
        for line in lines:
            if line.sku == sku:
                release_line(product, line, "cancelled")
    return places


def dispatch(
    cmd: Dispatch, line_of: Callable[[str, str], PlacedLine], product_of: Callable[[str], Product]
) -> dict[str, int]:
    """Let a parcel leave. From batches that are named whatever else is promised from them, since what has left is a
    fact: promises move there, and when all of it has left, some of others are broken. Of other lines from the
    batches that are here, the preferred first. Returns the versions at which that is recorded, by SKU.

    Raises UnknownLine, UnknownBatch, DocumentConflict, NotArrived, NotEnough.
    """
    known: dict[str, int] = {}
    leaving: list[tuple[Product, PlacedLine, ParcelLine, list[tuple[Batch, int]]]] = []
    for part in cmd.lines:
        line = line_of(cmd.orderid, part.lineid)
        product = product_of(line.sku)
        if before := _known_dispatch(product, line, cmd.dispatch_id, part):
            known[line.sku] = min(before, known.get(line.sku, before))
        else:
            leaving.append((product, line, part, _picked(product, line, part)))
    _require_on_shelf([picked for *_, several in leaving for picked in several])
    new = {product.sku: product.version_number + 1 for product, *_ in leaving}
    for product, line, part, picked in leaving:
        if part.batchref is not None:
            _move_promise(product, line, *picked[0])
    for product, line, _, picked in leaving:
        for batch, qty in picked:
            product.record(
                Dispatched(line.orderid, product.sku, qty, batch.reference, line.lineid, dispatch_id=cmd.dispatch_id)
            )
    for product, _, part, picked in leaving:
        if part.batchref is not None:
            break_newest(product, picked[0][0])
    return new or known


def take_back(product: Product, line: PlacedLine, cmd: ReturnLine) -> int:
    """Take what has left for a line back into its batches, for sale or into quarantine, and return the version at which
    that is recorded. Raises UnknownBatch, DocumentConflict, NotEnough."""
    if known := _known_return(product, line, cmd):
        return known
    if cmd.batchref is not None:
        batch_of(product, cmd.batchref)
    out = [one for one in line.allocations if one.dispatched and cmd.batchref in {None, one.batchref}]
    possible = sum(one.dispatched for one in out)
    if cmd.qty > possible:
        text = f"{cmd.qty} of line {line.lineid} of order {line.orderid}: {possible} are out"
        raise NotEnough(text, possible)
    first = product.version_number + 1
    for one, qty in spread(cmd.qty, ((one, one.dispatched) for one in reversed(out))):
        product.record(
            Returned(
                line.orderid,
                product.sku,
                qty,
                one.batchref,
                line.lineid,
                return_id=cmd.return_id,
                condition=cmd.condition,
            )
        )
        if cmd.condition == "check":
            product.record(Quarantined(one.batchref, product.sku, qty, "suspect", cmd.return_id, "return"))
    return first


def _known_dispatch(product: Product, line: PlacedLine, dispatch_id: str, part: ParcelLine) -> int | None:
    entries = product.documents.get(documents.dispatch(line.orderid, line.lineid, dispatch_id))
    if not entries:
        return None
    events = [entry.event for entry in entries if isinstance(entry.event, Dispatched)]
    qty = sum(event.qty for event in events)
    if qty != part.qty or (part.batchref and {event.batchref for event in events} != {part.batchref}):
        recorded = f"{qty} of line {line.lineid}, from {', '.join(event.batchref for event in events)}"
        raise DocumentConflict(f"Dispatch {dispatch_id} of order {line.orderid}", recorded)
    return entries[0].version


def _known_return(product: Product, line: PlacedLine, cmd: ReturnLine) -> int | None:
    entries = product.documents.get(documents.return_of(cmd))
    if not entries:
        return None
    events = [entry.event for entry in entries if isinstance(entry.event, Returned)]
    qty, conditions = sum(event.qty for event in events), {event.condition for event in events}
    same_batch = cmd.batchref is None or {event.batchref for event in events} == {cmd.batchref}
    if qty != cmd.qty or conditions != {cmd.condition} or not same_batch:
        raise DocumentConflict(
            f"Return {cmd.return_id} of order {line.orderid}", f"{qty} of line {line.lineid}, {', '.join(conditions)}"
        )
    return entries[0].version


def _picked(product: Product, line: PlacedLine, part: ParcelLine) -> list[tuple[Batch, int]]:
    """From which batches so much of the line leaves. Raises UnknownBatch, NotArrived, NotEnough."""
    if part.qty > line.promised:
        waiting = f" − {line.waiting} waiting" if line.waiting else ""
        ordered = f"{line.qty - line.returned} ordered − {line.dispatched} dispatched{waiting}"
        ordered += f" = {line.promised} promised"
        raise NotEnough(f"{part.qty} of line {line.lineid} of order {line.orderid}: {ordered}", line.promised)
    if part.batchref is not None:
        promised = [(batch_of(product, part.batchref), part.qty)]
    else:
        promised = [(product.batches[one.batchref], one.promised) for one in line.promises]
        promised.sort(key=lambda pair: pair[0].preference)
    picked = list(spread(part.qty, promised))
    for batch, _ in picked:
        if not batch.is_received:
            raise NotArrived(batch)
    return picked


def _require_on_shelf(picked: Sequence[tuple[Batch, int]]) -> None:
    """All of it together. Raises NotEnough."""
    leaving: defaultdict[str, int] = defaultdict(int)
    for batch, qty in picked:
        leaving[batch.reference] += qty
        if leaving[batch.reference] > batch.on_shelf:
            raise NotEnough.on_shelf(batch, leaving[batch.reference])


def _move_promise(product: Product, line: PlacedLine, batch: Batch, qty: int) -> None:
    """Have so much of the line be promised from the batch that it was picked from, also if that is too much for it."""
    there = line.of_batch(batch.reference)
    missing = qty - (there.promised if there else 0)
    if missing <= 0:
        return
    give_up(product, line, missing, [one for one in line.promises if one.batchref != batch.reference], "moved")
    record_allocated(product, line, line.terms, batch, missing)


def give_up(product: Product, line: PlacedLine, qty: int, promises: Sequence[Allocation], why: WhyReleased) -> None:
    """So much of these, first of the batches that are preferred least."""
    weakest_first = sorted(promises, key=lambda one: product.batches[one.batchref].preference, reverse=True)
    for one, part in spread(qty, ((one, one.promised) for one in weakest_first)):
        record_released(product, line, part, one.batchref, why)


def record_released(product: Product, line: PlacedLine, qty: int, batchref: str | None, why: WhyReleased) -> None:
    product.record(LineReleased(line.orderid, product.sku, qty, batchref, line.lineid, why))


def status_of(*, is_cancelled: bool, is_pending: bool, has_left: bool) -> Status:
    """`is_pending`: something is promised or waits."""
    if is_cancelled:
        return "cancelled"
    return "open" if is_pending else "complete" if has_left else "empty"


def status_of_lines(lines: Sequence[PlacedLine]) -> Status:
    """Of an order that is not cancelled."""
    return status_of(
        is_cancelled=False,
        is_pending=any(line.is_pending for line in lines),
        has_left=any(line.dispatched for line in lines),
    )
