"""What can be had of a SKU today and later, and when a line could have so much: in one question, whatever it asks."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from allocation.domain import batches as domain
from allocation.domain.explaining import Earliest, earliest
from allocation.domain.lines import LineTerms, there_on
from allocation.domain.product import Product
from allocation.views.batches import AVAILABLE, HELD, IS_SOLD, PROMISED, TODAY, all_batches_of
from messaging.sql.moments import day_from


@dataclass(frozen=True, slots=True)
class OnHand:
    """What is in the warehouse: `purchased` is what is there now, which is `available`, `allocated`, `held` or
    `quarantined`. `dispatched` has left it."""

    purchased: int
    available: int
    allocated: int
    held: int
    quarantined: int
    dispatched: int


@dataclass(frozen=True, slots=True)
class Day:
    """Today, or a day on which something comes: how much `arrives`, how much of what is there then, and was not on the
    day before, is `available`, and how much that is with all that was available before. What is overdue counts as if it
    came today."""

    date: datetime.date
    arrives: int
    available: int
    cumulative: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """A batch that was to come on a day that is past."""

    ref: str
    eta: datetime.date
    available: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many lines wait for so many pieces. They are taken off nothing: what is available fits none of them."""

    lines: int
    qty: int


@dataclass(frozen=True, slots=True)
class Availability:
    """What can be had of a SKU, at the version that its product had at the moment `as_of`. What has expired is in none
    of the numbers. `earliest` is null where no quantity was asked for, and where nothing fits."""

    sku: str
    on_hand: OnHand
    by_date: list[Day]
    overdue: list[Overdue]
    waiting: Waiting
    version: int
    as_of: datetime.datetime
    earliest: Earliest | None = None


def availability(
    connection: Connection, skus: Sequence[str], qty: int | None, terms: LineTerms, zone: str
) -> dict[str, Availability]:
    """Of those that were ever purchased, and how a line of `qty` with these terms would fare."""
    rows = connection.execute(_AVAILABILITY, {"skus": list(skus), "zone": zone})
    return {row.sku: _availability(row, qty, terms) for row in rows}


def _availability(row: Any, qty: int | None, terms: LineTerms) -> Availability:
    batches = [_batch(row.sku, *columns) for columns in row.batches]
    product = Product(row.sku, row.version_number, today=lambda: row.today)
    product.batches.load(row.sku, batches, None)
    on_hand = OnHand(*map(int, (row.purchased, row.available, row.promised, row.held, row.quarantined, row.dispatched)))
    preferred = product.batches.of(row.sku)
    return Availability(
        row.sku,
        on_hand,
        _by_date(on_hand.available, preferred, row.today),
        [
            Overdue(one.reference, one.eta, one.available_quantity)
            for one in preferred
            if one.eta and one.eta < row.today
        ],
        Waiting(row.waiting, int(row.waiting_qty)),
        row.version_number,
        row.as_of.astimezone(datetime.UTC),
        earliest(product, qty, terms) if qty else None,
    )


def _by_date(on_hand: int, batches: Iterable[domain.Batch], today: datetime.date) -> list[Day]:
    arrives, available = Counter({today: 0}), Counter({today: on_hand})
    for one in batches:
        if one.eta:
            arrives[there_on(one.eta, today)] += one.purchased_quantity
            available[there_on(one.eta, today)] += one.available_quantity
    days: list[Day] = []
    for day in sorted(available):
        before = days[-1].cumulative if days else 0
        days.append(Day(day, arrives[day], available[day], before + available[day]))
    return days


def _batch(  # noqa: PLR0917 - as the statement has them
    sku: str, ref: str, eta: str | None, expires: str | None, added: int, location: str, purchased: int, available: int
) -> domain.Batch:
    """As the rule of choice looks at it: of what is taken it does not ask what it is."""
    comes, last = (day_from(day) if day else None for day in (eta, expires))
    initially = purchased, comes, last
    taken = purchased - available
    return domain.Batch(ref, sku, comes, last, *initially, purchased, added, location, taken_quantity=taken)


_AVAILABILITY = text(f"""
    SELECT products.sku, version_number, waiting, statement_timestamp() AS as_of, {TODAY} AS today,
           (SELECT coalesce(sum(qty), 0) FROM backorders WHERE backorders.sku = products.sku) AS waiting_qty,
           figures.*
    FROM unnest(CAST(:skus AS text[])) AS given (sku) JOIN products ON products.sku = given.sku
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(purchased_quantity - dispatched_quantity) FILTER (WHERE eta IS NULL), 0) AS purchased,
               coalesce(sum({AVAILABLE}) FILTER (WHERE eta IS NULL), 0) AS available,
               coalesce(sum({PROMISED}) FILTER (WHERE eta IS NULL), 0) AS promised,
               coalesce(sum({HELD}) FILTER (WHERE eta IS NULL), 0) AS held,
               coalesce(sum(quarantined_quantity) FILTER (WHERE eta IS NULL), 0) AS quarantined,
               coalesce(sum(dispatched_quantity) FILTER (WHERE eta IS NULL), 0) AS dispatched,
               coalesce(
                   json_agg(json_build_array(
                       reference, eta, expires, added, location, purchased_quantity, {AVAILABLE}
                   )) FILTER (WHERE {AVAILABLE} > 0 OR eta IS NOT NULL),
                   '[]'
               ) AS batches
        FROM {all_batches_of("products.sku")} AS every WHERE {IS_SOLD}
    ) AS figures
""")  # noqa: S608 - all of it is our own
