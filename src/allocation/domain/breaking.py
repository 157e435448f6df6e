"""What is broken when a batch falls short: first holds, the newest first, then promises, of the lowest priority the
newest; and no more than must be."""

from __future__ import annotations

from collections.abc import Iterator

from allocation.domain.batches import Batch
from allocation.domain.events import Deallocated, HoldEnded
from allocation.domain.holds import Hold
from allocation.domain.lines import Allocation
from allocation.domain.product import Product


def break_newest(product: Product, batch: Batch, too_much: int | None = None) -> None:
    """Until what is left fits, or for so much. Promises are recorded the other way round, of the highest priority the
    oldest first: the order in which the lines are to be allocated again."""
    too_much = -batch.available_quantity if too_much is None else too_much
    too_much -= _break_holds(product, batch, too_much)
    broken = list(_until_it_fits(product, batch, too_much))
    product.lines.prefetch([allocation.line_key for allocation, _ in broken])
    for allocation, qty in reversed(broken):
        product.record(Deallocated(allocation.orderid, product.sku, qty, batch.reference, allocation.lineid))


def _break_holds(product: Product, batch: Batch, too_much: int) -> int:
    """How much that gives."""
    given = 0
    if too_much > 0 and batch.held_quantity:
        for hold in list(_enough_of(product.holds.first_to_break(batch), too_much)):
            product.record(HoldEnded(hold.hold_id, hold.sku, hold.qty, hold.batchref, "broken"))
            given += hold.qty
    return given


def _enough_of(holds: Iterator[Hold], too_much: int) -> Iterator[Hold]:
    for hold in holds:
        yield hold
        too_much -= hold.qty
        if too_much <= 0:
            return


def _until_it_fits(product: Product, batch: Batch, too_much: int) -> Iterator[tuple[Allocation, int]]:
    """Each with how much of it: all, but of the last one, if that may be split, what must be."""
    if too_much <= 0:
        return
    for allocation in product.lines.first_to_break(batch):
        qty = allocation.promised
        if qty > too_much and product.lines[allocation.line_key].terms.may_split:
            qty = too_much
        yield allocation, qty
        too_much -= qty
        if too_much <= 0:
            return
