"""What is held for nobody's line yet. One that has run out is not among it, recorded or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from allocation.views.pages import Page, cut


@dataclass(frozen=True, slots=True)
class Hold:
    """So much of a SKU is held, of this batch, `until` that instant."""

    hold_id: str
    sku: str
    qty: int
    batchref: str
    until: datetime


class HoldCursor(NamedTuple):
    """Where a page ends."""

    sku: str
    hold_id: str


def hold(connection: Connection, hold_id: str, sku: str) -> Hold | None:
    row = connection.execute(_ONE, {"hold_id": hold_id, "sku": sku}).one_or_none()
    return _hold(*row) if row else None


def holds(connection: Connection, sku: str | None, after: HoldCursor | None, most: int) -> Page[Hold, HoldCursor]:
    """The next by SKU and id."""
    last = after or HoldCursor("", "")
    about = {"sku": sku, "after_sku": last.sku, "after": last.hold_id, "most": most + 1}
    found = [_hold(*row) for row in connection.execute(_OF_SKU if sku is not None else _OF_ALL, about)]
    return cut(found, most, lambda one: HoldCursor(one.sku, one.hold_id))


def _hold(hold_id: str, sku: str, qty: int, batchref: str, until: datetime) -> Hold:
    return Hold(hold_id, sku, qty, batchref, until.astimezone(UTC))


_ONE = text("""
    SELECT hold_id, sku, qty, batchref, until FROM holds
    WHERE sku = :sku AND hold_id = :hold_id AND until > statement_timestamp()
""")
_PAGE = """
    SELECT hold_id, sku, qty, batchref, until FROM holds
    WHERE %s AND until > statement_timestamp() ORDER BY sku, hold_id LIMIT :most
"""
_OF_ALL = text(_PAGE % "(sku, hold_id) > (:after_sku, :after)")
_OF_SKU = text(_PAGE % "sku = :sku AND (sku, hold_id) > (:after_sku, :after)")
