"""The rules of orders: what is given back, what leaves, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from allocation.domain.batches import Batch
from allocation.domain.breaking import break_newest
from allocation.domain.commands import ParcelLine, ReturnLine
from allocation.domain.errors import DocumentConflict, NotArrived, NotEnough, OrderIsComplete, UnknownOrder
from allocation.domain.events import (
    Allocated,
    Dispatched,
    LineReleased,
    OrderCancelled,
    Quarantined,
    Returned,
)
from allocation.domain.lines import Allocation, PlacedLine
from allocation.domain.product import Product
from allocation.domain.receiving import batch_of


def release_line(product: Product, line: PlacedLine, why: Literal["released", "cancelled"] = "released") -> int | None:
    """Give back all that is promised to it, and return the version at which that is recorded; None when it is nothing.
    What has left stays so."""
    first = product.version_number + 1
    for allocation in line.allocations:
        if allocation.line.qty:
            _release(product, allocation, allocation.line.qty, why)
    return first if product.version_number >= first else None


def cancel(orderid: str, lines: Sequence[PlacedLine], product_of: Callable[[str], Product]) -> dict[str, int]:
    """Close the order in each of its products, and give back what is promised to it. Returns the versions at which that
    is recorded, by SKU; none when it was cancelled before. Raises UnknownOrder, OrderIsComplete."""
    if not lines:
        raise UnknownOrder(orderid)
    products = {sku: product_of(sku) for sku in sorted({line.sku for line in lines})}
    if next(iter(products.values())).lines.is_cancelled(orderid):
        return {}
    dispatched = sum(line.dispatched for line in lines)
    if dispatched and not any(line.promised for line in lines):
        raise OrderIsComplete(orderid, dispatched)
    places = {sku: product.version_number + 1 for sku, product in products.items()}
    for sku, product in products.items():
        product.record(OrderCancelled(orderid, sku))
        for line in lines:
            if line.sku == sku:
                release_line(product, line, "cancelled")
    return places


def dispatch(product: Product, line: PlacedLine, dispatch_id: str, part: ParcelLine) -> int:
    """Let so much of a line leave, and return the version at which that is recorded. Of several batches the preferred
    that are here; from one that is named whatever else is promised from it, since what has left is a fact.

    Raises UnknownBatch, DocumentConflict, NotArrived, NotEnough.
    """
    if known := _known_dispatch(product, line, dispatch_id, part):
        return known
    if part.qty > line.promised:
        ordered = f"{line.qty - line.returned} ordered − {line.dispatched} dispatched = {line.promised} promised"
        raise NotEnough(f"{part.qty} of line {line.lineid} of order {line.orderid}: {ordered}", line.promised)
    first = product.version_number + 1
    if part.batchref is None:
        picked = _pick(product, line, part.qty)
    else:
        batch = batch_of(product, part.batchref)
        _move_promise(product, line, batch, part.qty)
        picked = [(batch.reference, part.qty)]
    for batchref, qty in picked:
        product.record(Dispatched(line.orderid, product.sku, qty, batchref, line.lineid, dispatch_id))
    return first


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
    left = cmd.qty
    for one in reversed(out):
        qty = min(left, one.dispatched)
        if not qty:
            break
        left -= qty
        about = line.orderid, product.sku, qty, one.batchref, line.lineid
        product.record(Returned(*about, cmd.return_id, cmd.condition))
        if cmd.condition == "check":
            product.record(Quarantined(one.batchref, product.sku, qty, "suspect", cmd.return_id, "return"))
    return first


def _known_dispatch(product: Product, line: PlacedLine, dispatch_id: str, part: ParcelLine) -> int | None:
    entries = product.documents.get((line.orderid, line.lineid, "dispatch", dispatch_id))
    if not entries:
        return None
    events = [entry.event for entry in entries if isinstance(entry.event, Dispatched)]
    qty = sum(event.qty for event in events)
    if qty != part.qty or (part.batchref and {event.batchref for event in events} != {part.batchref}):
        said = f"{qty} of line {line.lineid}, from {', '.join(event.batchref for event in events)}"
        raise DocumentConflict(f"Dispatch {dispatch_id} of order {line.orderid}", said)
    return entries[0].version


def _known_return(product: Product, line: PlacedLine, cmd: ReturnLine) -> int | None:
    entries = product.documents.get((line.orderid, line.lineid, "return", cmd.return_id))
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


def _pick(product: Product, line: PlacedLine, qty: int) -> list[tuple[str, int]]:
    """From the batches that are here, the preferred first. Raises NotArrived."""
    promised = [(product.batches[one.batchref], one.line.qty) for one in line.allocations if one.line.qty]
    promised.sort(key=lambda pair: pair[0].preference)
    picked = []
    for batch, there in promised:
        if not qty:
            break
        if not batch.is_received:
            raise NotArrived(batch)
        picked.append((batch.reference, min(qty, there)))
        qty -= min(qty, there)
    return picked


def _move_promise(product: Product, line: PlacedLine, batch: Batch, qty: int) -> None:
    """Have so much of the line be promised from the batch that it was picked from. Raises NotArrived, NotEnough."""
    if not batch.is_received:
        raise NotArrived(batch)
    if qty > batch.on_shelf:
        raise NotEnough(f"{qty} of batch {batch.reference}: {batch.on_shelf} are on the shelf", batch.on_shelf)
    there = line.of_batch(batch.reference)
    missing = qty - (there.line.qty if there else 0)
    if missing <= 0:
        return
    left = missing
    others = [one for one in line.allocations if one.line.qty and one.batchref != batch.reference]
    for one in sorted(others, key=lambda other: product.batches[other.batchref].preference, reverse=True):
        given_up = min(left, one.line.qty)
        if given_up:
            _release(product, one, given_up, "moved")
            left -= given_up
    product.record(Allocated(line.orderid, product.sku, missing, batch.reference, line.lineid))
    break_newest(product, batch, sparing=line.key)


def _release(
    product: Product, allocation: Allocation, qty: int, why: Literal["released", "cancelled", "moved"]
) -> None:
    line = allocation.line
    product.record(LineReleased(line.orderid, product.sku, qty, allocation.batchref, line.lineid, why))
