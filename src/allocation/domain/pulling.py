"""The rule by which promises move to goods that come sooner, when a person wants that."""

from __future__ import annotations

from dataclasses import dataclass

from allocation.domain.allocating import objection_to, record_allocated
from allocation.domain.commands import PullForward
from allocation.domain.lines import PlacedLine
from allocation.domain.ordering import release
from allocation.domain.product import Product
from allocation.domain.receiving import batch_of


@dataclass(frozen=True, slots=True)
class Pulled:
    """So much of a line that was promised from that batch."""

    line: PlacedLine
    batchref: str
    qty: int


def pull_forward(product: Product, cmd: PullForward) -> list[Pulled]:
    """Move what is promised from batches that come after this one, each promise as a whole, the first those that would
    be broken last. Returns what has moved. Raises UnknownBatch."""
    batch = batch_of(product, cmd.ref)
    room = batch.available_quantity
    moving: list[Pulled] = []
    for one in product.lines.promised_elsewhere(batch) if room > 0 else ():
        if len(moving) == cmd.most or not room:
            break
        line, qty = product.lines[one.line.key], one.line.qty
        comes_later = product.batches[one.batchref].preference > batch.preference
        if qty <= room and comes_later and not objection_to(product, batch, line.terms):
            moving.append(Pulled(line, one.batchref, qty))
            room -= qty
    for pulled in moving:
        release(product, pulled.line, pulled.qty, pulled.batchref, "moved")
        record_allocated(product, pulled.line, pulled.line.terms, batch, pulled.qty)
    return moving
