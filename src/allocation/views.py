"""Questions answered around the domain model: of orders from a read model, of stock from the tables that are written,
of what has happened from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, TextClause, select, text

from allocation.adapters.tables import ORDER_OF_EVENT, allocations_view
from messaging.retry import Retry
from messaging.sql.connections import connection
from messaging.sql.log_reader import SqlLogReader

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Incoming:
    """What is expected of a SKU on one day."""

    eta: date
    purchased: int
    allocated: int
    available: int


@dataclass(frozen=True, slots=True)
class Stock:
    """A SKU: what was purchased and is in the warehouse (`on_hand`), how much of that is promised, what is available
    now, and what is to come, by day."""

    sku: str
    on_hand: int
    allocated: int
    available: int
    incoming: list[Incoming]


@dataclass(frozen=True, slots=True)
class Room:
    """What all batches of a SKU hold together, the most that one of them has available, and the next day on which
    something comes that is not promised yet."""

    purchased: int
    allocated: int
    available: int
    largest: int
    next_eta: date | None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is now; `eta` null: in the warehouse."""

    ref: str
    sku: str
    qty: int
    allocated: int
    available: int
    eta: date | None


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


class Views:
    """All of it raises Unavailable."""

    def __init__(self, engine: Engine, retry: Retry) -> None:
        self._engine = engine
        self._retry = retry
        self.log = SqlLogReader(engine, retry, subject=ORDER_OF_EVENT)

    def allocations(self, orderid: str) -> list[dict[str, str]]:
        """The allocated lines of an order, in the order in which they were allocated."""
        query = (
            select(allocations_view.c.sku, allocations_view.c.batchref)
            .where(allocations_view.c.orderid == orderid)
            .order_by(allocations_view.c.position)
        )

        def ask(views: Connection) -> list[dict[str, str]]:
            return [{"sku": row.sku, "batchref": row.batchref} for row in views.execute(query)]

        return self._ask(ask)

    def products(self, after: str, most: int) -> list[Stock]:
        """The next SKUs in order."""
        return list(_stocks(self._rows(_PRODUCTS, {"after": after, "most": most})))

    def product(self, sku: str) -> Stock | None:
        return next(_stocks(self._rows(_PRODUCT, {"sku": sku})), None)

    def room(self, sku: str) -> Room:
        (row,) = self._rows(_ROOM, {"sku": sku})
        purchased, allocated, available, largest = map(int, row[:4])
        return Room(purchased, allocated, available, largest, row.next_eta)

    def batch(self, reference: str) -> Batch | None:
        return next((Batch(*row) for row in self._rows(_BATCH, {"reference": reference})), None)

    def order(self, orderid: str) -> Order | None:
        lines = [AllocatedLine(*row) for row in self._rows(_ORDER, {"orderid": orderid})]
        return Order(orderid, lines) if lines else None

    def _rows(self, statement: TextClause, asked: Mapping[str, object]) -> Sequence[Any]:
        return self._ask(lambda views: views.execute(statement, asked).all())

    def _ask(self, question: Callable[[Connection], A]) -> A:
        def ask() -> A:
            with connection(self._engine) as open_connection:
                return question(open_connection)

        return self._retry(ask)


def _stocks(rows: Sequence[Any]) -> Iterator[Stock]:
    for sku, of_sku in groupby(rows, key=lambda row: row.sku):
        now, incoming = (0, 0), []
        for _, eta, *sums in of_sku:
            purchased, allocated = map(int, sums)
            if eta is None:
                now = purchased, allocated
            else:
                incoming.append(Incoming(eta, purchased, allocated, purchased - allocated))
        yield Stock(sku, *now, now[0] - now[1], incoming)


# Open and exhausted batches have an index each.
_BATCHES_OF = """
    SELECT eta, purchased_quantity, allocated_quantity FROM batches WHERE batches.sku = {sku} AND is_open
    UNION ALL
    SELECT eta, purchased_quantity, allocated_quantity FROM batches WHERE batches.sku = {sku} AND NOT is_open
"""
_STOCK = """
    SELECT page.sku, eta, sum(purchased_quantity), sum(allocated_quantity)
    FROM ({page}) AS page CROSS JOIN LATERAL ({batches}) AS batches
    GROUP BY page.sku, eta ORDER BY page.sku, eta NULLS FIRST
"""
_PRODUCTS = text(
    _STOCK.format(
        page="SELECT sku FROM products WHERE sku > :after ORDER BY sku LIMIT :most",
        batches=_BATCHES_OF.format(sku="page.sku"),
    )
)
_PRODUCT = text(
    _STOCK.format(page="SELECT sku FROM products WHERE sku = :sku", batches=_BATCHES_OF.format(sku="page.sku"))
)
_ROOM = text(f"""
    SELECT coalesce(sum(purchased_quantity), 0), coalesce(sum(allocated_quantity), 0),
           coalesce(sum(purchased_quantity - allocated_quantity), 0),
           coalesce(max(purchased_quantity - allocated_quantity), 0),
           min(eta) FILTER (WHERE eta >= current_date AND allocated_quantity < purchased_quantity) AS next_eta
    FROM ({_BATCHES_OF.format(sku=":sku")}) AS batches
""")  # noqa: S608 - all of it is our own
_BATCH = text("""
    SELECT batches.reference, batches.sku, purchased_quantity, allocated_quantity,
           purchased_quantity - allocated_quantity, eta
    FROM batch_references JOIN batches USING (sku, reference) WHERE batch_references.reference = :reference
""")
_ORDER = text("""
    SELECT lineid, view.sku, qty, batchref, eta
    FROM allocations_view AS view JOIN batches ON batches.sku = view.sku AND reference = batchref
    WHERE orderid = :orderid ORDER BY position
""")
