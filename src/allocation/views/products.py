"""Products as callers of the API see them: what there is of a SKU, and what is to come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from allocation.views.batches import all_batches_of


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


def products(asked: Connection, after: str, most: int) -> list[Stock]:
    """The next SKUs in order."""
    return list(_stocks(asked.execute(_PRODUCTS, {"after": after, "most": most}).all()))


def product(asked: Connection, sku: str) -> Stock | None:
    return next(_stocks(asked.execute(_PRODUCT, {"sku": sku}).all()), None)


def room(asked: Connection, sku: str) -> Room:
    *figures, next_eta = asked.execute(_ROOM, {"sku": sku}).one()
    purchased, allocated, available, largest = map(int, figures)
    return Room(purchased, allocated, available, largest, next_eta)


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


_STOCK = f"""
    SELECT page.sku, eta, sum(purchased_quantity), sum(allocated_quantity)
    FROM ({{page}}) AS page CROSS JOIN LATERAL {all_batches_of("page.sku")} AS every
    GROUP BY page.sku, eta ORDER BY page.sku, eta NULLS FIRST
"""  # noqa: S608 - all of it is our own
_PRODUCTS = text(_STOCK.format(page="SELECT sku FROM products WHERE sku > :after ORDER BY sku LIMIT :most"))
_PRODUCT = text(_STOCK.format(page="SELECT sku FROM products WHERE sku = :sku"))
_ROOM = text(f"""
    SELECT coalesce(sum(purchased_quantity), 0), coalesce(sum(allocated_quantity), 0),
           coalesce(sum(purchased_quantity - allocated_quantity), 0),
           coalesce(max(purchased_quantity - allocated_quantity), 0),
           min(eta) FILTER (WHERE eta >= current_date AND allocated_quantity < purchased_quantity) AS next_eta
    FROM {all_batches_of(":sku")} AS every
""")  # noqa: S608 - all of it is our own
