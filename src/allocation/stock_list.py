"""Stock as a person looks for it: a page of SKUs, found by a part of their name, each with its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, text

from messaging.retry import Retry
from messaging.sql.connections import connection

LOOKED_AT = 200_000
"""So many SKUs are searched for one page; what is behind them, for the next."""

BATCHES_SHOWN = 24
"""Of one SKU, on a page of many: the open ones first."""


@dataclass(frozen=True, slots=True)
class Held:
    """A batch as it is now; `eta` None: in the warehouse."""

    ref: str
    eta: date | None
    purchased: int
    allocated: int

    @property
    def available(self) -> int:
        return self.purchased - self.allocated


@dataclass(frozen=True, slots=True)
class Shelf:
    """A SKU with sums over all of its batches, and some of these in the order in which they are allocated: `available`
    and `allocated` in the warehouse, and the same of what is to come."""

    sku: str
    available: int
    allocated: int
    incoming: int
    incoming_allocated: int
    batch_count: int
    batches: list[Held]


@dataclass(frozen=True, slots=True)
class Page:
    """`next` is the SKU behind which the next page begins, None for the last."""

    shelves: list[Shelf]
    next: str | None


class SqlStockList:
    """All of it raises Unavailable."""

    def __init__(self, engine: Engine, retry: Retry) -> None:
        self._engine = engine
        self._retry = retry

    def page(self, part: str, after: str, most: int) -> Page:
        """The next SKUs that have this part in their name, in either case for ASCII letters."""
        asked = {"pattern": _containing(part), "after": after, "most": most + 1, "looked_at": LOOKED_AT}

        def ask() -> Page:
            with connection(self._engine) as stock:
                found: Sequence[str] = stock.execute(_SKUS if part else _ALL_SKUS, asked).scalars().all()
                if len(found) > most:
                    behind: str | None = found[most - 1]
                else:
                    behind = stock.execute(_LAST_LOOKED_AT, asked).scalar() if part else None
                return Page(_shelves(stock, found[:most]), behind)

        return self._retry(ask)


def _containing(part: str) -> str:
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _shelves(stock: Connection, skus: Sequence[str]) -> list[Shelf]:
    rows = stock.execute(_SHELVES, {"skus": list(skus), "shown": BATCHES_SHOWN}).all()
    return [_shelf(list(of_sku)) for _, of_sku in groupby(rows, key=lambda row: row.sku)]


def _shelf(rows: list[Any]) -> Shelf:
    first = rows[0]
    batches = [Held(row.reference, row.eta, row.purchased_quantity, row.allocated_quantity) for row in rows]
    return Shelf(
        sku=first.sku,
        available=int(first.available),
        allocated=int(first.allocated),
        incoming=int(first.incoming),
        incoming_allocated=int(first.incoming_allocated),
        batch_count=first.batch_count,
        batches=batches,
    )


_ALL_SKUS = text("SELECT sku FROM products WHERE sku > :after ORDER BY sku LIMIT :most")
_SKUS = text("""
    SELECT sku FROM (SELECT sku FROM products WHERE sku > :after ORDER BY sku LIMIT :looked_at) AS near
    WHERE sku ILIKE :pattern ORDER BY sku LIMIT :most
""")
_LAST_LOOKED_AT = text("""
    SELECT sku FROM products WHERE sku > :after ORDER BY sku OFFSET CAST(:looked_at AS integer) - 1 LIMIT 1
""")

# Open and exhausted batches have an index each.
_SHELVES = text("""
    SELECT page.sku, sums.*, shown.reference, shown.eta, shown.purchased_quantity, shown.allocated_quantity
    FROM unnest(CAST(:skus AS text[])) AS page (sku)
    CROSS JOIN LATERAL (
        SELECT count(*) AS batch_count,
               coalesce(sum(purchased_quantity - allocated_quantity) FILTER (WHERE eta IS NULL), 0) AS available,
               coalesce(sum(allocated_quantity) FILTER (WHERE eta IS NULL), 0) AS allocated,
               coalesce(sum(purchased_quantity - allocated_quantity) FILTER (WHERE eta IS NOT NULL), 0) AS incoming,
               coalesce(sum(allocated_quantity) FILTER (WHERE eta IS NOT NULL), 0) AS incoming_allocated
        FROM (
            SELECT eta, purchased_quantity, allocated_quantity FROM batches WHERE sku = page.sku COLLATE "C" AND is_open
            UNION ALL
            SELECT eta, purchased_quantity, allocated_quantity FROM batches
            WHERE sku = page.sku COLLATE "C" AND NOT is_open
        ) AS every
    ) AS sums
    CROSS JOIN LATERAL (
        SELECT * FROM (
            (SELECT * FROM batches WHERE sku = page.sku COLLATE "C" AND is_open
             ORDER BY eta NULLS FIRST, added LIMIT :shown)
            UNION ALL
            (SELECT * FROM batches WHERE sku = page.sku COLLATE "C" AND NOT is_open LIMIT :shown)
        ) AS every ORDER BY is_open DESC, eta NULLS FIRST, added LIMIT :shown
    ) AS shown
    ORDER BY page.sku COLLATE "C", shown.eta NULLS FIRST, shown.added
""")
