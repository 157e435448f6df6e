"""All stock in short, for who looks at the whole service."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

MOST = 200_000
"""SKUs, and batches, that are looked at."""


@dataclass(frozen=True, slots=True)
class StockTotals:
    """SKUs that were ever purchased, and the batches that have room, with their pieces. A batch without an eta is on
    hand, one with an eta is incoming. Unless it `is_complete`, there is more of it."""

    skus: int
    open_batches: int
    incoming_batches: int
    on_hand: int
    on_hand_allocated: int
    incoming: int
    incoming_allocated: int
    is_complete: bool

    @property
    def on_hand_available(self) -> int:
        return self.on_hand - self.on_hand_allocated

    @property
    def incoming_available(self) -> int:
        return self.incoming - self.incoming_allocated


def stock_totals(asked: Connection) -> StockTotals:
    skus = int(asked.execute(_SKUS, {"most": MOST}).scalar_one())
    row = asked.execute(_BATCHES, {"most": MOST}).one()
    return StockTotals(
        skus=skus,
        open_batches=row.batches,
        incoming_batches=row.incoming_batches,
        on_hand=int(row.on_hand),
        on_hand_allocated=int(row.on_hand_allocated),
        incoming=int(row.incoming),
        incoming_allocated=int(row.incoming_allocated),
        is_complete=skus < MOST and row.batches < MOST,
    )


_SKUS = text("SELECT count(*) FROM (SELECT FROM products ORDER BY sku LIMIT :most) AS few")

# Batches that are exhausted pile up for ever, and are in no index that is read here.
_BATCHES = text("""
    SELECT count(*) AS batches,
           count(*) FILTER (WHERE eta IS NOT NULL) AS incoming_batches,
           coalesce(sum(purchased_quantity) FILTER (WHERE eta IS NULL), 0) AS on_hand,
           coalesce(sum(allocated_quantity) FILTER (WHERE eta IS NULL), 0) AS on_hand_allocated,
           coalesce(sum(purchased_quantity) FILTER (WHERE eta IS NOT NULL), 0) AS incoming,
           coalesce(sum(allocated_quantity) FILTER (WHERE eta IS NOT NULL), 0) AS incoming_allocated
    FROM (SELECT * FROM batches WHERE is_open ORDER BY sku, eta NULLS FIRST, added LIMIT :most) AS few
""")
