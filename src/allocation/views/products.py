"""Products as callers of the API see them: what there is of a SKU, and what is to come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from allocation.domain.lines import LineTerms
from allocation.views.batches import AVAILABLE, HELD, IS_SOLD, PROMISED, TODAY, all_batches_of
from allocation.views.pages import Page, cut


@dataclass(frozen=True, slots=True)
class Incoming:
    """What is expected of a SKU on one day."""

    eta: date
    purchased: int
    allocated: int
    available: int


class ProductCursor(NamedTuple):
    """Where a page ends."""

    sku: str


@dataclass(frozen=True, slots=True)
class Stock:
    """A SKU: what is in the warehouse (`on_hand`), how much of that is promised, held or quarantined, and available
    now; what has left of it; and what is to come, by day. What has expired is in none of the numbers."""

    sku: str
    on_hand: int
    allocated: int
    available: int
    incoming: list[Incoming]
    held: int = 0
    quarantined: int = 0
    dispatched: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What all batches of a SKU hold together, but for the expired: purchased − allocated − held − dispatched −
    quarantined = available. The most that one of them has available, and the next day on which something comes that is
    not promised yet."""

    purchased: int
    allocated: int
    available: int
    largest: int
    next_eta: date | None
    held: int = 0
    dispatched: int = 0
    quarantined: int = 0

    @property
    def arithmetic(self) -> str:
        taken = {
            "allocated": self.allocated,
            "held": self.held,
            "dispatched": self.dispatched,
            "quarantined": self.quarantined,
        }
        terms = "".join(f" − {name} {qty}" for name, qty in taken.items())
        return f"purchased {self.purchased}{terms} = {self.available} available"

    def falls_short_of(self, lineid: str, requested: int, taken: int, terms: LineTerms) -> str:
        """In words, where so much is `taken` by lines before it in the same order."""
        left = max(self.available - taken, 0)
        text = f"line {lineid} asked for {requested}; {self.arithmetic}"
        text += f" − {taken} for lines before it = {left}" if taken else ""
        if left < requested:
            return text
        is_too_large = not terms.may_split and (taken or self.largest < requested)
        conditions = [f"it goes whole to one batch, and the largest has {self.largest}"] if is_too_large else []
        conditions += [f"it is needed by {terms.needed_by}"] if terms.needed_by else []
        conditions += [f"it may lie only in {' or '.join(map(repr, terms.locations))}"] if terms.locations else []
        return f"{text}, but {', and '.join(conditions)}" if conditions else text


def products(connection: Connection, after: ProductCursor | None, most: int, zone: str) -> Page[Stock, ProductCursor]:
    """The next SKUs in order."""
    about = {"after": after.sku if after else "", "most": most + 1, "zone": zone}
    found = list(_stocks(connection.execute(_PRODUCTS, about).all()))
    return cut(found, most, lambda last: ProductCursor(last.sku))


def product(connection: Connection, sku: str, zone: str) -> Stock | None:
    return next(_stocks(connection.execute(_PRODUCT, {"sku": sku, "zone": zone}).all()), None)


def rooms(connection: Connection, skus: Sequence[str], zone: str) -> dict[str, Room]:
    """Of each; one that was never purchased has none."""
    rows = connection.execute(_ROOMS, {"skus": list(skus), "zone": zone})
    return {sku: _room(next_eta, *map(int, figures)) for sku, next_eta, *figures in rows}


def _room(next_eta: date | None, purchased: int, allocated: int, available: int, largest: int, *parts: int) -> Room:
    return Room(purchased, allocated, available, largest, next_eta, *parts)


def _stocks(rows: Sequence[Any]) -> Iterator[Stock]:
    for sku, of_sku in groupby(rows, key=lambda row: row.sku):
        now, incoming = (0, 0, 0, 0, 0), []
        for _, eta, *sums in of_sku:
            purchased, promised, held, dispatched, quarantined = (int(one or 0) for one in sums)
            if eta is None:
                now = purchased, promised, held, dispatched, quarantined
            elif sums[0] is not None:
                incoming.append(Incoming(eta, purchased, promised, purchased - promised - held))
        purchased, promised, held, dispatched, quarantined = now
        on_hand = purchased - dispatched
        available = on_hand - promised - held - quarantined
        yield Stock(sku, on_hand, promised, available, incoming, held, quarantined, dispatched)


_STOCK = f"""
    SELECT page.sku, eta, sum(purchased_quantity) FILTER (WHERE {IS_SOLD}), sum({PROMISED}) FILTER (WHERE {IS_SOLD}),
           sum({HELD}) FILTER (WHERE {IS_SOLD}), sum(dispatched_quantity) FILTER (WHERE {IS_SOLD}),
           sum(quarantined_quantity) FILTER (WHERE {IS_SOLD})
    FROM ({{page}}) AS page CROSS JOIN LATERAL {all_batches_of("page.sku")} AS every
    GROUP BY page.sku, eta ORDER BY page.sku, eta NULLS FIRST
"""  # noqa: S608 - all of it is our own
_PRODUCTS = text(_STOCK.format(page="SELECT sku FROM products WHERE sku > :after ORDER BY sku LIMIT :most"))
_PRODUCT = text(_STOCK.format(page="SELECT sku FROM products WHERE sku = :sku"))
_ROOMS = text(f"""
    SELECT skus.sku, figures.* FROM unnest(CAST(:skus AS text[])) AS skus (sku) CROSS JOIN LATERAL (
        SELECT min(eta) FILTER (WHERE eta >= {TODAY} AND {AVAILABLE} > 0),
               coalesce(sum(purchased_quantity), 0), coalesce(sum({PROMISED}), 0),
               coalesce(sum({AVAILABLE}), 0),
               coalesce(max({AVAILABLE}), 0),
               coalesce(sum({HELD}), 0), coalesce(sum(dispatched_quantity), 0),
               coalesce(sum(quarantined_quantity), 0)
        FROM {all_batches_of("skus.sku")} AS every WHERE {IS_SOLD}
    ) AS figures
""")  # noqa: S608 - all of it is our own
