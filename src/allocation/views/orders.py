"""Orders, from the read model that is kept for them: it knows nothing of the rules, and waits for nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from sqlalchemy import Connection, select, text

from allocation.database.tables import allocations_view


@dataclass(frozen=True, slots=True)
class Promise:
    """What a line has of a batch: so much is promised, and so much more has left. `eta` null: in the warehouse."""

    batchref: str
    qty: int
    eta: date | None
    dispatched: int


@dataclass(frozen=True, slots=True)
class Line:
    """An order line, with what it has of each batch. `qty` is what is promised, dispatched, or was `returned`;
    `batchref` and `eta` are of the first promise."""

    lineid: str
    sku: str
    qty: int
    batchref: str | None
    eta: date | None
    promises: list[Promise]
    returned: int = 0

    @classmethod
    def of(cls, lineid: str, sku: str, returned: int, promises: list[Promise]) -> Line:
        first = next((promise for promise in promises if promise.qty), promises[0] if promises else None)
        qty = sum(promise.qty + promise.dispatched for promise in promises) + returned
        batchref, eta = (first.batchref, first.eta) if first else (None, None)
        return cls(lineid, sku, qty, batchref, eta, promises, returned)


@dataclass(frozen=True, slots=True)
class Order:
    """The lines of an order that anything was ever promised to, in the order of allocation.

    `open`: something is promised; `complete`: all that is left has been dispatched; `empty`: nothing is left.
    """

    orderid: str
    lines: list[Line]
    status: Literal["open", "complete", "cancelled", "empty"] = "open"

    @classmethod
    def of(cls, orderid: str, lines: list[Line], *, is_cancelled: bool) -> Order:
        every = [promise for line in lines for promise in line.promises]
        if is_cancelled:
            return cls(orderid, lines, "cancelled")
        if any(promise.qty for promise in every):
            return cls(orderid, lines, "open")
        return cls(orderid, lines, "complete" if every else "empty")


def allocations(asked: Connection, orderid: str) -> list[dict[str, str]]:
    """As the book's route answers them."""
    query = (
        select(allocations_view.c.sku, allocations_view.c.batchref)
        .where(allocations_view.c.orderid == orderid)
        .order_by(allocations_view.c.position)
    )
    return [{"sku": row.sku, "batchref": row.batchref} for row in asked.execute(query)]


def order(asked: Connection, orderid: str) -> Order | None:
    rows = asked.execute(_LINES, {"orderid": orderid}).all()
    if not rows:
        return None
    promises: dict[str, list[Promise]] = {}
    about: dict[str, tuple[str, int]] = {}
    for _, lineid, sku, returned, batchref, *of_batch in rows:
        about[lineid] = sku, returned
        promises.setdefault(lineid, [])
        if batchref is not None:
            promises[lineid].append(Promise(batchref, *of_batch))
    lines = [Line.of(lineid, *about[lineid], has) for lineid, has in promises.items()]
    return Order.of(orderid, lines, is_cancelled=rows[0].cancelled)


_LINES = text("""
    SELECT coalesce(orders.cancelled, false) AS cancelled, line.lineid, line.sku, returned, allocations.batchref,
           allocations.qty, eta, dispatched
    FROM order_lines AS line
    LEFT JOIN orders ON orders.orderid = line.orderid
    LEFT JOIN LATERAL (
        SELECT * FROM allocations WHERE sku = line.sku AND version = line.version
        UNION ALL
        SELECT allocations.* FROM unnest(line.others) AS other (version)
        JOIN allocations ON sku = line.sku AND allocations.version = other.version
    ) AS allocations ON true
    LEFT JOIN batches ON batches.sku = allocations.sku AND batches.reference = allocations.batchref
    LEFT JOIN allocations_view AS view
        ON view.orderid = line.orderid AND view.lineid = line.lineid AND view.batchref = allocations.batchref
    WHERE line.orderid = :orderid ORDER BY view.position, line.lineid
""")
