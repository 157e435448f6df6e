"""All stock in short, for who looks at the whole service."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from allocation.views.batches import AVAILABLE, HELD, IS_SOLD, PROMISED

MOST = 200_000
"""SKUs, and batches, that are looked at."""


@dataclass(frozen=True, slots=True)
class StockTotals:
    """SKUs that were ever purchased, and the batches that have room, with their pieces; what has left is in none of the
    numbers. A batch without an eta is on hand, one with an eta is incoming; expired ones are left out. Unless it
    `is_complete`, there is more of it."""

    skus: int
    open_batches: int
    incoming_batches: int
    on_hand: int
    on_hand_allocated: int
    on_hand_held: int
    on_hand_quarantined: int
    on_hand_available: int
    incoming: int
    incoming_allocated: int
    incoming_held: int
    incoming_available: int
    is_complete: bool


def stock_totals(connection: Connection, zone: str) -> StockTotals:
    skus = int(connection.execute(_SKUS, {"most": MOST}).scalar_one())
    row = connection.execute(_BATCHES, {"most": MOST, "zone": zone}).one()
    return StockTotals(
        skus=skus,
        open_batches=row.batches,
        incoming_batches=row.incoming_batches,
        on_hand=int(row.on_hand),
        on_hand_allocated=int(row.on_hand_allocated),
        on_hand_held=int(row.on_hand_held),
        on_hand_quarantined=int(row.on_hand_quarantined),
        on_hand_available=int(row.on_hand_available),
        incoming=int(row.incoming),
        incoming_allocated=int(row.incoming_allocated),
        incoming_held=int(row.incoming_held),
        incoming_available=int(row.incoming_available),
        is_complete=skus < MOST and row.looked_at < MOST,
    )


_SKUS = text("SELECT count(*) FROM (SELECT FROM products ORDER BY sku LIMIT :most) AS few")

# Batches that are exhausted pile up for ever, and are in no index that is read here.
_BATCHES = text(f"""
    SELECT count(*) AS looked_at,
           count(*) FILTER (WHERE is_sold) AS batches,
           count(*) FILTER (WHERE is_sold AND eta IS NOT NULL) AS incoming_batches,
           coalesce(sum(there) FILTER (WHERE is_sold AND eta IS NULL), 0) AS on_hand,
           coalesce(sum(promised) FILTER (WHERE is_sold AND eta IS NULL), 0) AS on_hand_allocated,
           coalesce(sum(held) FILTER (WHERE is_sold AND eta IS NULL), 0) AS on_hand_held,
           coalesce(sum(held) FILTER (WHERE is_sold AND eta IS NOT NULL), 0) AS incoming_held,
           coalesce(sum(quarantined_quantity) FILTER (WHERE is_sold AND eta IS NULL), 0) AS on_hand_quarantined,
           coalesce(sum(available) FILTER (WHERE is_sold AND eta IS NULL), 0) AS on_hand_available,
           coalesce(sum(there) FILTER (WHERE is_sold AND eta IS NOT NULL), 0) AS incoming,
           coalesce(sum(promised) FILTER (WHERE is_sold AND eta IS NOT NULL), 0) AS incoming_allocated,
           coalesce(sum(available) FILTER (WHERE is_sold AND eta IS NOT NULL), 0) AS incoming_available
    FROM (
        SELECT *, {IS_SOLD} AS is_sold, purchased_quantity - dispatched_quantity AS there, {PROMISED} AS promised,
               {AVAILABLE} AS available, {HELD} AS held
        FROM batches WHERE is_open ORDER BY sku, eta NULLS FIRST, added LIMIT :most
    ) AS few
""")  # noqa: S608 - all of it is our own
