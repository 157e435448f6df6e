"""Orders, from the read model that is kept for them: it knows nothing of the rules, and waits for nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, select, text

from allocation.database.tables import allocations_view


@dataclass(frozen=True, slots=True)
class AllocatedLine:
    """An order line and the batch it was promised from; `eta` null: from the warehouse."""

    lineid: str
    sku: str
    qty: int
    batchref: str
    eta: date | None


@dataclass(frozen=True, slots=True)
class Order:
    """The allocated lines of an order, in the order of allocation. What is out of stock is not among them."""

    orderid: str
    lines: list[AllocatedLine]


def allocations(asked: Connection, orderid: str) -> list[dict[str, str]]:
    """As the book's route answers them."""
    query = (
        select(allocations_view.c.sku, allocations_view.c.batchref)
        .where(allocations_view.c.orderid == orderid)
        .order_by(allocations_view.c.position)
    )
    return [{"sku": row.sku, "batchref": row.batchref} for row in asked.execute(query)]


def order(asked: Connection, orderid: str) -> Order | None:
    lines = [AllocatedLine(*row) for row in asked.execute(_LINES, {"orderid": orderid})]
    return Order(orderid, lines) if lines else None


_LINES = text("""
    SELECT lineid, view.sku, qty, batchref, eta
    FROM allocations_view AS view JOIN batches ON batches.sku = view.sku AND reference = batchref
    WHERE orderid = :orderid ORDER BY position
""")
