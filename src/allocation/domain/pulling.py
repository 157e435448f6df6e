"""The rule by which promises move to goods that come sooner, when a person wants that."""

from __future__ import annotations

from allocation.domain.allocating import objection_to, record_allocated
from allocation.domain.commands import PullForward
from allocation.domain.lines import Allocation
from allocation.domain.ordering import record_released
from allocation.domain.product import Product
from allocation.domain.receiving import batch_of


def pull_forward(product: Product, cmd: PullForward) -> list[Allocation]:
    """Move what is promised from batches that come after this one, each promise as a whole, the first those that would
    be broken last. Returns what has moved, as it was. Raises UnknownBatch."""
    batch = batch_of(product, cmd.ref)
    room = batch.available_quantity
    moving: list[Allocation] = []
    for one in product.lines.promised_elsewhere(batch) if room > 0 else ():
        if len(moving) == cmd.most or not room:
            break
        terms = product.lines[one.line_key].terms
        comes_later = product.batches[one.batchref].preference > batch.preference
        if one.promised <= room and comes_later and not objection_to(product, batch, terms):
            moving.append(one)
            room -= one.promised
    for one in moving:
        line = product.lines[one.line_key]
        record_released(product, line, one.promised, one.batchref, "moved")
        record_allocated(product, line, line.terms, batch, one.promised)
    return moving
