"""What has come due by the clock and is not recorded yet, and what is overdue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from allocation.views.batches import IS_SOLD, NEWLY_OVERDUE, TODAY


@dataclass(frozen=True, slots=True)
class Due:
    """Of one SKU: holds that have run out, or these batches, whose day has passed."""

    sku: str
    refs: tuple[str, ...]


def due(connection: Connection, most: int, zone: str, others_than: Sequence[str] = ()) -> list[Due]:
    """The `most` that came due first, by SKU; the SKU of the first is the first. Of `others_than` these SKUs."""
    refs: dict[str, list[str]] = {}
    for row in connection.execute(_DUE, {"most": most, "zone": zone, "left_out": list(others_than)}):
        refs.setdefault(row.sku, []).extend([] if row.reference is None else [row.reference])
    return [Due(sku, tuple(of_sku)) for sku, of_sku in refs.items()]


@dataclass(frozen=True, slots=True)
class Backlog:
    """For how many seconds the first of what has come due is not recorded, 0 when all is; and how many batches were
    expected on a day that has passed, and have not expired since."""

    lag: float
    overdue_batches: int


NOTHING_DUE = Backlog(0.0, 0)


def backlog(connection: Connection, most: int, zone: str) -> Backlog:
    """`most` batches may be more. A batch that was late when it was created has been due since then."""
    longest = connection.execute(_LONGEST, {"most": 100, "zone": zone, "left_out": []}).scalar_one()
    overdue = int(connection.execute(_OVERDUE, {"most": most, "zone": zone}).scalar_one())
    return Backlog(max(0.0, longest or 0.0), overdue)


_BY_BATCH = f"""
    SELECT sku, reference, added,
           CAST(greatest({{day}} + 1, DATE '1980-01-01') AS timestamp) AT TIME ZONE :zone AS since
    FROM batches WHERE {{day}} IS NOT NULL AND NOT {{is_recorded}} AND {{day}} + 1 <= {TODAY}
      AND sku <> ALL (CAST(:left_out AS text[]))
    ORDER BY {{day}} + 1 LIMIT :most
"""  # noqa: S608 - all of it is our own
_FIRST = f"""
    SELECT * FROM (
        (SELECT sku, CAST(NULL AS text) AS reference, version AS added, until AS since FROM holds
         WHERE until <= statement_timestamp() AND sku <> ALL (CAST(:left_out AS text[])) ORDER BY until LIMIT :most)
        UNION ALL ({_BY_BATCH.format(day="eta", is_recorded="overdue")})
        UNION ALL ({_BY_BATCH.format(day="expires", is_recorded="expired")})
    ) AS due ORDER BY since, sku, reference LIMIT :most
"""  # noqa: S608 - all of it is our own
_DUE = text(_FIRST)
_LONGEST = text(f"""
    SELECT max(CAST(extract(epoch FROM statement_timestamp() - greatest(since, time)) AS double precision))
    FROM ({_FIRST}) AS first LEFT JOIN event_log ON stream = sku AND version = added
""")  # noqa: S608 - all of it is our own

_OVERDUE = text(f"""
    SELECT count(*) FROM (
        (SELECT FROM batches WHERE overdue AND {IS_SOLD} LIMIT :most)
        UNION ALL
        (SELECT FROM batches WHERE {NEWLY_OVERDUE} AND {IS_SOLD} LIMIT :most)
    ) AS few
""")  # noqa: S608 - all of it is our own
