"""Stock as a person looks for it: a page of SKUs, found by a part of their name, each with its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, text

from allocation.views.batches import (
    AVAILABLE,
    COLUMNS,
    IS_SOLD,
    PREFERRED_FIRST,
    PROMISED,
    Batch,
    all_batches_of,
    few_batches_of,
)

LOOKED_AT = 200_000
"""So many SKUs are searched for one page; what is behind them, for the next."""

BATCHES_SHOWN = 24
"""Of one SKU, on a page of many: the open ones first."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """A SKU with sums over all of its batches but the expired, and some of these in the order in which they are
    allocated: `available` and `allocated`, which is promised, in the warehouse, and the same of what is to come."""

    sku: str
    available: int
    allocated: int
    incoming: int
    incoming_allocated: int
    batch_count: int
    batches: list[Batch]


@dataclass(frozen=True, slots=True)
class StockPage:
    """`next` is the SKU behind which the next page begins, None for the last."""

    shelves: list[Shelf]
    next: str | None


def page(connection: Connection, part: str, after: str, most: int, zone: str) -> StockPage:
    about = {"pattern": _containing(part), "after": after, "most": most + 1, "looked_at": LOOKED_AT}
    found: Sequence[str] = connection.execute(_SKUS if part else _ALL_SKUS, about).scalars().all()
    if len(found) > most:
        behind: str | None = found[most - 1]
    else:
        behind = connection.execute(_LAST_LOOKED_AT, about).scalar() if part else None
    return StockPage(list(_shelves(connection, found[:most], zone)), behind)


def _containing(part: str) -> str:
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _shelves(connection: Connection, skus: Sequence[str], zone: str) -> Iterator[Shelf]:
    rows = connection.execute(_SHELVES, {"skus": list(skus), "shown": BATCHES_SHOWN, "zone": zone}).all()
    for sku, of_sku in groupby(rows, key=lambda row: row.sku):
        shown = list(of_sku)
        available, allocated, incoming, incoming_allocated, count = map(int, shown[0][:_SUMS])
        batches = [Batch(*row[_SUMS:]) for row in shown]
        yield Shelf(sku, available, allocated, incoming, incoming_allocated, count, batches)


_ALL_SKUS = text("SELECT sku FROM products WHERE sku > :after ORDER BY sku LIMIT :most")
_SKUS = text("""
    SELECT sku FROM (SELECT sku FROM products WHERE sku > :after ORDER BY sku LIMIT :looked_at) AS near
    WHERE sku ILIKE :pattern ORDER BY sku LIMIT :most
""")
_LAST_LOOKED_AT = text("""
    SELECT sku FROM products WHERE sku > :after ORDER BY sku OFFSET CAST(:looked_at AS integer) - 1 LIMIT 1
""")

_SUMS = 5
_SKU = 'page.name COLLATE "C"'
_SHELVES = text(f"""
    SELECT sums.*, {COLUMNS}
    FROM unnest(CAST(:skus AS text[])) AS page (name)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum({AVAILABLE}) FILTER (WHERE eta IS NULL AND {IS_SOLD}), 0),
               coalesce(sum({PROMISED}) FILTER (WHERE eta IS NULL AND {IS_SOLD}), 0),
               coalesce(sum({AVAILABLE}) FILTER (WHERE eta IS NOT NULL AND {IS_SOLD}), 0),
               coalesce(sum({PROMISED}) FILTER (WHERE eta IS NOT NULL AND {IS_SOLD}), 0),
               count(*)
        FROM {all_batches_of(_SKU)} AS every
    ) AS sums
    CROSS JOIN LATERAL (
        SELECT * FROM {few_batches_of(_SKU, ":shown")} AS every
        ORDER BY is_open DESC, {PREFERRED_FIRST} LIMIT :shown
    ) AS shown
    ORDER BY sku, {PREFERRED_FIRST}
""")  # noqa: S608 - all of it is our own
