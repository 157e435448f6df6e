"""Orders, from the read model that is kept for them: it knows nothing of the rules, and waits for nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, text

from allocation.adapters.product_queries import terms_from
from allocation.database.tables import allocations_view
from allocation.domain.lines import is_at_risk
from allocation.domain.names import forms
from allocation.domain.ordering import Status, status_of
from allocation.domain.values import USUAL_PRIORITY
from allocation.views.backorders import PLACE_IN_QUEUE, QUEUES_OF_ORDER
from allocation.views.batches import TODAY
from allocation.views.pages import Page


@dataclass(frozen=True, slots=True)
class Promise:
    """What a line has of a batch: so much is promised, and so much more has left. `eta` null: in the warehouse."""

    batchref: str
    qty: int
    eta: date | None
    dispatched: int


@dataclass(frozen=True, slots=True)
class Line:
    """An order line, with what it has of each batch. `qty` is what is promised, dispatched, or was `returned`, and what
    it waits for, at the `position` in the queue of its SKU; `batchref` and `eta` are of the first promise. At risk:
    some of it comes after the day `needed_by`, or that is past while it waits."""

    lineid: str
    sku: str
    qty: int
    batchref: str | None
    eta: date | None
    promises: list[Promise]
    returned: int = 0
    waiting: int = 0
    position: int | None = None
    priority: int = USUAL_PRIORITY
    needed_by: date | None = None
    at_risk: bool = False

    @classmethod
    def of(
        cls, lineid: str, sku: str, promises: list[Promise], returned: int = 0, waiting: int = 0, **further: Any
    ) -> Line:
        first = next((promise for promise in promises if promise.qty), promises[0] if promises else None)
        qty = sum(promise.qty + promise.dispatched for promise in promises) + returned + waiting
        batchref, eta = (first.batchref, first.eta) if first else (None, None)
        return cls(lineid, sku, qty, batchref, eta, promises, returned, waiting, **further)


@dataclass(frozen=True, slots=True)
class Order:
    """The lines of an order that anything was ever promised to, or that wait, in the order of allocation.

    `open`: something is promised or waits; `complete`: all that is left has been dispatched; `empty`: nothing is left.
    """

    orderid: str
    lines: list[Line]
    status: Status = "open"

    @classmethod
    def of(cls, orderid: str, lines: list[Line], *, is_cancelled: bool) -> Order:
        every = [promise for line in lines for promise in line.promises]
        is_pending = any(promise.qty for promise in every) or any(line.waiting for line in lines)
        return cls(orderid, lines, status_of(is_cancelled=is_cancelled, is_pending=is_pending, has_left=bool(every)))


def allocations(connection: Connection, orderid: str) -> list[dict[str, str]]:
    """As the book's route answers them."""
    query = (
        select(allocations_view.c.sku, allocations_view.c.batchref)
        .where(allocations_view.c.orderid == orderid)
        .order_by(allocations_view.c.position)
    )
    return [{"sku": row.sku, "batchref": row.batchref} for row in connection.execute(query)]


def order(connection: Connection, orderid: str, zone: str) -> Order | None:
    rows = connection.execute(_LINES, {"orderid": orderid, "zone": zone}).all()
    if not rows:
        return None
    promises: dict[str, list[Promise]] = {row.lineid: [] for row in rows}
    for row in rows:
        if row.batchref is not None:
            promises[row.lineid].append(Promise(row.batchref, row.qty, row.eta, row.dispatched))
    by_id = {row.lineid: row for row in rows}
    lines = [_line(by_id[lineid], has) for lineid, has in promises.items()]
    return Order.of(orderid, lines, is_cancelled=rows[0].cancelled)


def _line(row: Any, promises: list[Promise]) -> Line:
    terms = terms_from(row.terms)
    etas = [one.eta for one in promises if one.qty]
    return Line.of(
        row.lineid,
        row.sku,
        promises,
        row.returned,
        row.waiting,
        position=row.position,
        priority=terms.priority,
        needed_by=terms.needed_by,
        at_risk=is_at_risk(etas, row.waiting > 0, terms.needed_by, row.today),
    )


# Each looked up by its key, whatever the planner believes of the table.
_ALLOCATIONS_OF_LINE = """
    SELECT allocation.* FROM (SELECT line.version UNION ALL SELECT unnest(line.others)) AS named CROSS JOIN LATERAL (
        SELECT * FROM allocations WHERE sku = line.sku AND allocations.version = named.version LIMIT 1
    ) AS allocation
"""

_LINES = text(f"""
    WITH {QUEUES_OF_ORDER}
    SELECT coalesce(orders.cancelled, false) AS cancelled, line.lineid, line.sku, returned, line.terms,
           coalesce(backorder.qty, 0) AS waiting, {TODAY} AS today,
           {PLACE_IN_QUEUE % {"waits": "backorder"}} AS position,
           allocations.batchref, allocations.qty, eta, dispatched
    FROM order_lines AS line
    LEFT JOIN orders ON orders.orderid = line.orderid
    LEFT JOIN backorders AS backorder ON backorder.sku = line.sku AND backorder.since = line.since
    LEFT JOIN LATERAL ({_ALLOCATIONS_OF_LINE}) AS allocations ON true
    LEFT JOIN batches ON batches.sku = allocations.sku AND batches.reference = allocations.batchref
    LEFT JOIN allocations_view AS view
        ON view.orderid = line.orderid AND view.lineid = line.lineid AND view.batchref = allocations.batchref
    WHERE line.orderid = :orderid ORDER BY view.position, line.lineid
""")  # noqa: S608 - all of it is our own


@dataclass(frozen=True, slots=True)
class OrderSummary:
    """An order at a glance. `placed` is when it got its first line, null where that was not kept yet."""

    orderid: str
    status: Status
    placed: datetime | None
    lines: int
    promised: int
    waiting: int
    dispatched: int
    skus: list[str]


class OrderCursor(NamedTuple):
    """Where a page ends: the last order that was looked at."""

    orderid: str


def listed(  # noqa: PLR0917 - what may be asked
    connection: Connection,
    after: OrderCursor | None,
    most: int,
    status: Status | None,
    sku: str | None,
    since: datetime | None,
) -> Page[OrderSummary, OrderCursor]:
    """The next orders in the order of their ids, of those that were looked at in one go."""
    found: list[OrderSummary] = []
    rows = connection.execute(_ORDERS, {"after": after.orderid if after else "", "most": LOOKED_AT}).all()
    for row in rows:
        pending, left = row.promised + row.waiting > 0, row.dispatched > 0
        now = status_of(is_cancelled=row.cancelled, is_pending=pending, has_left=left)
        is_late_enough = since is None or (row.placed is not None and row.placed >= since)
        if status in {None, now} and (sku is None or not set(forms(sku)).isdisjoint(row.skus)) and is_late_enough:
            if len(found) == most:
                return found, OrderCursor(found[-1].orderid)
            figures = int(row.promised), int(row.waiting), int(row.dispatched)
            found.append(OrderSummary(row.orderid, now, row.placed, row.lines, *figures, row.skus))
    return found, OrderCursor(rows[-1].orderid) if len(rows) == LOOKED_AT else None


LOOKED_AT = 1_000

_ORDERS = text(f"""
    SELECT page.orderid, coalesce(cancelled, false) AS cancelled, placed, figures.*
    FROM (SELECT DISTINCT orderid FROM order_lines WHERE orderid > :after ORDER BY orderid LIMIT :most) AS page
    LEFT JOIN orders ON orders.orderid = page.orderid
    CROSS JOIN LATERAL (
        SELECT count(*) AS lines, array_agg(DISTINCT line.sku) AS skus, coalesce(sum(has.promised), 0) AS promised,
               coalesce(sum(backorders.qty), 0) AS waiting, coalesce(sum(has.dispatched), 0) AS dispatched
        FROM order_lines AS line
        LEFT JOIN backorders ON backorders.sku = line.sku AND backorders.since = line.since
        LEFT JOIN LATERAL (
            SELECT sum(qty) AS promised, sum(dispatched) AS dispatched FROM ({_ALLOCATIONS_OF_LINE}) AS allocations
        ) AS has ON true
        WHERE line.orderid = page.orderid
    ) AS figures
    ORDER BY page.orderid
""")  # noqa: S608 - all of it is our own
