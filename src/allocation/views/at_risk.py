"""Lines whose day will be missed, or is: it follows from what is stored and from a clock, and is recorded nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, TextClause, text

from allocation.domain.names import forms
from allocation.views.batches import PROMISED, TODAY
from allocation.views.pages import Page
from messaging.sql.moments import FIRST, LAST


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


class AtRiskCursor(NamedTuple):
    """Where a page ends: whose day comes first is first, then by SKU, and then by the version that made the promise, or
    since which the line waits. They may be the same for two parts of a line, and then the one that `waits` is second.
    """

    needed_by: date = date.min
    sku: str = ""
    version: int = 0
    waits: bool = False


def at_risk(
    connection: Connection, sku: str | None, after: AtRiskCursor | None, most: int, zone: str
) -> Page[AtRisk, AtRiskCursor]:
    """The next in the order of the days missed, and where they end, if there may be more."""
    about = place(sku, after, most + 1) | {"zone": zone}
    rows = connection.execute(OF_SKU if sku else OF_ALL, about).all()
    end = _end(rows[most - 1]) if len(rows) > most else None
    return [AtRisk(*row[:-1]) for row in rows[:most]], end


def place(sku: str | None, after: AtRiskCursor | None, most: int | None) -> dict[str, object]:
    """What the statements want to know, beside the time zone. Without `most` all."""
    end = after or AtRiskCursor()
    return end._asdict() | {"most": most} | ({"skus": forms(sku)} if sku else {})


def _end(row: Row[Any]) -> AtRiskCursor:
    return AtRiskCursor(row.needed_by, row.sku, row.version, row.batchref is None)


_DAYS = f"least(there_on, date '{LAST}') - greatest(needed_by, date '{FIRST}')"
"""Nothing can be taken from infinity."""


def _at_risk(of_batches: str, waiting: str, further: str = ", version") -> TextClause:
    """Starts from batches that are expected, and from lines that wait: lines that are done are not looked at."""
    return text(f"""
        SELECT orderid, lineid, sku, qty, batchref, eta, needed_by, {_DAYS} AS days {further} FROM (
            SELECT late.*, eta, greatest(eta, {TODAY}) AS there_on
            FROM batches CROSS JOIN LATERAL (
                SELECT orderid, lineid, allocations.sku, qty, batchref, needed_by, version FROM allocations
                WHERE batchref = batches.reference AND qty > 0
                  AND needed_by < greatest(eta, {TODAY})
                  AND (needed_by, version) > (:needed_by, {_behind("batches.sku")})
                ORDER BY needed_by, version LIMIT CAST(:most AS bigint)
            ) AS late
            WHERE eta IS NOT NULL AND {PROMISED} > 0 {of_batches}
            UNION ALL
            ({waiting})
        ) AS late
        ORDER BY needed_by, sku, version, batchref NULLS LAST LIMIT CAST(:most AS bigint)
    """)  # noqa: S608 - all of it is our own


def _behind(sku: str) -> str:
    """The version behind which this SKU goes on, of the last day: the one SKU is done, the other has not begun."""
    return f"CASE WHEN {sku} < :sku THEN {2**63 - 1} WHEN {sku} = :sku THEN :version ELSE 0 END"


_WAITING = f"""
    SELECT orderid, lineid, sku, qty, CAST(NULL AS text), needed_by, since, CAST(NULL AS date), {TODAY} FROM backorders
    WHERE needed_by < {TODAY}
"""  # noqa: S608 - all of it is our own

_OF_ALL = f"""
    {_WAITING} AND (needed_by, sku, since, true) > (:needed_by, :sku, :version, :waits)
    ORDER BY needed_by, sku, since LIMIT CAST(:most AS bigint)
"""
_OF_SKU = f"""
    SELECT late.* FROM unnest(CAST(:skus AS text[])) AS given (name) CROSS JOIN LATERAL (
        {_WAITING} AND sku = given.name COLLATE "C"
        AND (needed_by, since, true) > (:needed_by, {_behind('given.name COLLATE "C"')}, :waits)
        ORDER BY needed_by, since LIMIT CAST(:most AS bigint)
    ) AS late
"""  # noqa: S608 - all of it is our own

OF_ALL = _at_risk("", _OF_ALL)
OF_SKU = _at_risk("AND batches.sku = ANY(:skus)", _OF_SKU)
EXPORTED = _at_risk("", _OF_ALL, further="")
