"""Those who wait, in their turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from allocation.views.batches import AVAILABLE, IS_SOLD
from allocation.views.pages import Page


@dataclass(frozen=True, slots=True)
class Backorder:
    """A line that waits for `qty` of a SKU, `since` that moment, at this `position` in its queue. It `needs` so much of
    one batch, of which the `largest` room is so much. `locations` null: anywhere."""

    orderid: str
    lineid: str
    sku: str
    qty: int
    position: int
    needs: int
    largest: int
    since: datetime | None
    priority: int
    needed_by: date | None
    locations: list[str] | None


class BackorderCursor(NamedTuple):
    """Where a page ends: who is first has the lowest turn."""

    sku: str
    turn: int
    since: int


def backorders(
    connection: Connection, sku: str | None, after: BackorderCursor | None, most: int, zone: str
) -> Page[Backorder, BackorderCursor]:
    """The next by SKU and turn, and where they end, if there may be more."""
    behind = after or BackorderCursor("", -100, 0)
    about = {"of": sku or behind.sku, "turn": behind.turn, "since": behind.since, "most": most + 1, "zone": zone}
    rows = connection.execute(_OF_SKU if sku else _OF_ALL, about).all()
    found: list[Backorder] = []
    position = 0
    for row in rows[:most]:
        position = row.position if row.position is not None else position + 1
        found.append(_backorder(row, position))
    last = rows[most - 1] if len(rows) > most else None
    return found, BackorderCursor(last.sku, last.turn, last.version) if last else None


def backorders_of(connection: Connection, orderid: str, zone: str) -> list[Backorder]:
    """Of the lines of an order."""
    rows = connection.execute(_OF_ORDER, {"orderid": orderid, "zone": zone}).all()
    return [_backorder(row, row.position) for row in rows]


def waiting_lines(connection: Connection, most: int) -> int:
    """How many lines wait; `most` may be more."""
    return int(connection.execute(_COUNT, {"most": most}).scalar_one())


def _backorder(row: Any, position: int) -> Backorder:
    of_line, terms = (row.orderid, row.lineid, row.sku, row.qty), (-row.turn, row.needed_by, row.locations or None)
    return Backorder(*of_line, position, row.needs, row.largest, row.time, *terms)


_COUNT = text("SELECT count(*) FROM (SELECT FROM backorders ORDER BY sku, since LIMIT :most) AS few")

_LARGEST = f"""
    coalesce((
        SELECT max({AVAILABLE}) FROM batches
        WHERE batches.sku = skus.sku AND is_open AND {IS_SOLD}
    ), 0)
"""  # noqa: S608 - all of it is our own

_PAGE = f"""
    WITH page AS (
        SELECT *, row_number() OVER (PARTITION BY sku ORDER BY turn, since) AS nth FROM (
            SELECT * FROM backorders WHERE %s ORDER BY sku, turn, since LIMIT :most
        ) AS next
    ), rooms AS MATERIALIZED (
        SELECT sku, {_LARGEST} AS largest FROM (SELECT DISTINCT sku FROM page) AS skus
    )
    SELECT page.orderid, page.lineid, page.sku, page.qty, page.needs, page.turn, page.needed_by,
           line.terms -> 'locations' AS locations,
           page.since AS version, event_log.time, rooms.largest,
           CASE WHEN nth = 1 THEN (
               SELECT count(*) FROM backorders AS before
               WHERE before.sku = page.sku AND (before.turn, before.since) <= (page.turn, page.since)
           ) END AS position
    FROM page JOIN rooms ON rooms.sku = page.sku
    LEFT JOIN order_lines AS line ON line.orderid = page.orderid AND line.lineid = page.lineid
    LEFT JOIN event_log ON event_log.stream = page.sku AND event_log.version = page.since
    ORDER BY page.sku, page.turn, page.since
"""  # noqa: S608 - all of it is our own

# Apart, since a plan for both would read all that wait behind a SKU.
_OF_ALL = text(_PAGE % "(sku, turn, since) > (:of, :turn, :since)")
_OF_SKU = text(_PAGE % "sku = :of AND (turn, since) > (:turn, :since)")

QUEUES_OF_ORDER = """
    queues AS MATERIALIZED (
        SELECT jsonb_object_agg(since || ' ' || sku, position) AS positions FROM (
            SELECT sku, since, row_number() OVER (PARTITION BY sku ORDER BY turn, since) AS position FROM backorders
            WHERE sku IN (
                SELECT line.sku FROM order_lines AS line JOIN backorders USING (sku, since)
                WHERE line.orderid = :orderid
            )
        ) AS every
        WHERE ((sku, since) IN (SELECT sku, since FROM order_lines WHERE orderid = :orderid)) IS TRUE
    )
"""
"""The places in the queues in which lines of an order wait: each queue is counted once, however many they are. One
object, and a condition that is no join: joins are nested loops here (see `messaging.sql.limits`), and of thousands of
lines with as many places that is millions of rows."""

PLACE_IN_QUEUE = """
    CASE WHEN %(waits)s.since IS NOT NULL THEN
        CAST((SELECT positions FROM queues) ->> (%(waits)s.since || ' ' || %(waits)s.sku) AS bigint)
    END
"""
"""Queues are counted only once a line is met that waits."""

_OF_ORDER = text(f"""
    WITH {QUEUES_OF_ORDER}
    SELECT skus.*, line.terms -> 'locations' AS locations, event_log.time, {_LARGEST} AS largest,
           {PLACE_IN_QUEUE % {"waits": "skus"}} AS position
    FROM order_lines AS line
    JOIN backorders AS skus ON skus.sku = line.sku AND skus.since = line.since
    LEFT JOIN event_log ON event_log.stream = skus.sku AND event_log.version = skus.since
    WHERE line.orderid = :orderid
""")  # noqa: S608 - all of it is our own
