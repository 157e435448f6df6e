"""Lines whose day will be missed, or is: it follows from what is stored and from a clock, and is recorded nowhere."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import date

from sqlalchemy import Connection, TextClause, text

from allocation.domain.names import forms
from allocation.views.batches import PROMISED, TODAY


@dataclass(frozen=True, slots=True)
class AtRisk:
    """A part of a line that comes with a batch so many `days` after it is needed, what is overdue today at the
    earliest; or that still waits so many days after, and then `batchref` and `eta` are null."""

    orderid: str
    lineid: str
    sku: str
    qty: int
    batchref: str | None
    eta: date | None
    needed_by: date
    days: int


@dataclass(frozen=True, slots=True)
class Missed:
    """Where a page ends: whose day comes first is first. `batchref` is empty for what waits."""

    needed_by: date = date.min
    orderid: str = ""
    lineid: str = ""
    batchref: str = ""


def at_risk(
    asked: Connection, sku: str | None, after: Missed | None, most: int, zone: str
) -> tuple[list[AtRisk], Missed | None]:
    """The next in the order of the days missed, and where they end, if there may be more."""
    about = place(sku, after, most + 1) | {"zone": zone}
    found = [AtRisk(*row) for row in asked.execute(OF_SKU if sku else OF_ALL, about)]
    last = found[most - 1] if len(found) > most else None
    end = Missed(last.needed_by, last.orderid, last.lineid, last.batchref or "") if last else None
    return found[:most], end


def place(sku: str | None, after: Missed | None, most: int | None) -> dict[str, object]:
    """What the statements want to know, beside the time zone. Without `most` all."""
    names = dict(zip(("day", "orderid", "lineid", "batchref"), astuple(after or Missed()), strict=True))
    return names | {"most": most} | ({"skus": forms(sku)} if sku else {})


def _at_risk(of_batches: str, waiting: str) -> TextClause:
    """Starts from batches that are expected, and from lines that wait: lines that are done are not looked at."""
    return text(f"""
        SELECT orderid, lineid, sku, qty, batchref, eta, needed_by, there_on - needed_by AS days FROM (
            SELECT late.*, eta, greatest(eta, {TODAY}) AS there_on
            FROM batches CROSS JOIN LATERAL (
                SELECT orderid, lineid, allocations.sku, qty, batchref, needed_by FROM allocations
                WHERE batchref = batches.reference AND qty > 0
                  AND needed_by < greatest(eta, {TODAY})
                  AND (needed_by, orderid, lineid, batchref) > (:day, :orderid, :lineid, :batchref)
                ORDER BY needed_by, orderid, lineid LIMIT CAST(:most AS bigint)
            ) AS late
            WHERE eta IS NOT NULL AND {PROMISED} > 0 {of_batches}
            UNION ALL
            ({waiting})
        ) AS late
        ORDER BY needed_by, orderid, lineid, batchref NULLS FIRST LIMIT CAST(:most AS bigint)
    """)  # noqa: S608 - all of it is our own


_WAITING = f"""
    SELECT orderid, lineid, sku, qty, CAST(NULL AS text), needed_by, CAST(NULL AS date), {TODAY} FROM backorders
    WHERE needed_by < {TODAY} AND (needed_by, orderid, lineid, '') > (:day, :orderid, :lineid, :batchref)
"""  # noqa: S608 - all of it is our own
_FIRST = "ORDER BY needed_by, orderid, lineid LIMIT CAST(:most AS bigint)"

OF_ALL = _at_risk("", f"{_WAITING} {_FIRST}")
OF_SKU = _at_risk(
    "AND batches.sku = ANY(:skus)",
    f"""
        SELECT late.* FROM unnest(CAST(:skus AS text[])) AS asked (name)
        CROSS JOIN LATERAL ({_WAITING} AND sku = asked.name COLLATE "C" {_FIRST}) AS late
    """,  # noqa: S608 - all of it is our own
)
