"""Batches as they are now, and the SQL with which others ask for those of a SKU."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import Connection, text

from allocation.views.pages import Page, cut

State: TypeAlias = Literal["expected", "overdue", "received", "expired"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is now: `qty` is `allocated`, `held`, `dispatched`, `quarantined`, or `available`. `eta` null: in
    the warehouse; `expires` null: it keeps. `location`: where it lies, empty where none was said."""

    ref: str
    sku: str
    qty: int
    allocated: int
    available: int
    eta: date | None
    held: int = 0
    dispatched: int = 0
    quarantined: int = 0
    expires: date | None = None
    state: State = "received"
    location: str = ""


_KNOWN = len(fields(Batch))


class BatchCursor(NamedTuple):
    """Where a page ends: the last batch, with its day in a list that is by the days; in one of a SKU with the SKU and
    its place, so that the next page is the same wherever that batch stands by then."""

    ref: str
    eta: date | None = None
    sku: str | None = None
    expires: date | None = None
    added: int | None = None


TODAY = "CAST(statement_timestamp() AT TIME ZONE :zone AS date)"
"""The day that it is in the time zone `zone`."""

IS_SOLD = f"coalesce(expires >= {TODAY}, true)"
"""That it has not expired: what has is in no number of what there is."""

NEWLY_OVERDUE = f"eta IS NOT NULL AND NOT overdue AND eta + 1 <= {TODAY}"
"""That its day has passed, and it is not recorded yet. Written so that there is an index for it."""

# Columns have other names here, so that those of the batch need none of its table's.
_RUN_OUT = """
    CASE WHEN held_quantity > 0 THEN coalesce((
        SELECT sum(hold_qty) FROM holds AS hold (hold_sku, hold_id, hold_qty, hold_batchref, hold_until, hold_version)
        WHERE hold_batchref = reference AND hold_until <= statement_timestamp()
          AND NOT EXISTS (SELECT FROM backorders WHERE backorders.sku = hold_sku)
    ), 0) ELSE 0 END
"""
"""What has run out and is not recorded yet. Where somebody waits it counts as held: they are served first."""

RECORDED = "(purchased_quantity - allocated_quantity)"
"""How much of a batch is available by what is recorded: what has run out since is not in it."""

AVAILABLE = f"({RECORDED} + {_RUN_OUT})"
"""How much of a batch a line could be promised now."""

HELD = f"(held_quantity - {_RUN_OUT})"
"""How much of a batch is held now."""

PROMISED = "(allocated_quantity - held_quantity - dispatched_quantity - quarantined_quantity)"

COLUMNS = f"""
    reference, sku, purchased_quantity, {PROMISED} AS promised, {AVAILABLE} AS available,
    eta, {HELD} AS held, dispatched_quantity, quarantined_quantity, expires,
    CASE WHEN expires < {TODAY} THEN 'expired' WHEN eta IS NULL THEN 'received' WHEN eta < {TODAY} THEN 'overdue'
         ELSE 'expected' END AS state,
    location
"""
"""Of a Batch, in its order, in a statement that is given the time zone."""

PREFERRED_FIRST = "eta NULLS FIRST, expires, added"


def batch(connection: Connection, reference: str, zone: str) -> Batch | None:
    row = connection.execute(_BATCH, {"reference": reference, "zone": zone}).one_or_none()
    return Batch(*row) if row else None


def batches(
    connection: Connection,
    sku: str | None,
    after: BatchCursor | None,
    most: int,
    zone: str,
    *,
    overdue: bool = False,
    quarantined: bool = False,
) -> Page[Batch, BatchCursor]:
    """The next of a SKU in the order of allocation, or of all by their references; those that are overdue by how long
    they are."""
    last = after or BatchCursor("")
    about: dict[str, object] = {"sku": sku, "after": last.ref, "most": most + 1, "zone": zone}
    about["quarantined"] = quarantined
    if overdue:
        statement = _OVERDUE
        about["day"] = last.eta or date.min
    elif sku is not None:
        statement = _OF_SKU
        about |= {"is_first": after is None, "eta": last.eta, "expires": last.expires, "added": last.added}
    else:
        statement = _QUARANTINED if quarantined else _ALL
    rows, end = cut(connection.execute(statement, about).all(), most, lambda row: _end_at(row, sku, by_day=overdue))
    return [Batch(*row[:_KNOWN]) for row in rows], end


def _end_at(row: Any, sku: str | None, *, by_day: bool) -> BatchCursor:
    if by_day or sku is None:
        return BatchCursor(row.reference, row.eta if by_day else None, sku)
    return BatchCursor(row.reference, row.eta, sku, row.expires, row.added)


def all_batches_of(sku: str) -> str:
    """Open and exhausted batches have an index each. `sku`: the SQL of one."""
    return f"({_open(sku)} UNION ALL {_exhausted(sku)})"


def few_batches_of(sku: str, most: str) -> str:
    """`most` of each kind; of the open ones the preferred. Their order is not that in which they come."""
    return f"(({_open(sku)} ORDER BY {PREFERRED_FIRST} LIMIT {most}) UNION ALL ({_exhausted(sku)} LIMIT {most}))"


def _open(sku: str) -> str:
    return f"SELECT * FROM batches WHERE sku = {sku} AND is_open"  # noqa: S608 - all of it is our own


def _exhausted(sku: str) -> str:
    return f"SELECT * FROM batches WHERE sku = {sku} AND NOT is_open"  # noqa: S608 - all of it is our own


_BATCH = text(f"""
    SELECT {COLUMNS} FROM batch_references JOIN batches USING (sku, reference) WHERE reference = :reference
""")  # noqa: S608 - all of it is our own

_IS_QUARANTINED = "quarantined_quantity > 0"

_PLACE = "coalesce(eta, '-infinity'), coalesce(expires, 'infinity'), added"
_OF_SKU = text(f"""
    SELECT {COLUMNS}, added FROM {all_batches_of(":sku")} AS every
    WHERE (CAST(:is_first AS boolean) OR ({_PLACE}) > (
        coalesce(CAST(:eta AS date), '-infinity'), coalesce(CAST(:expires AS date), 'infinity'), CAST(:added AS bigint)
    ))
      AND (NOT CAST(:quarantined AS boolean) OR {_IS_QUARANTINED})
    ORDER BY {_PLACE} LIMIT :most
""")  # noqa: S608 - all of it is our own

_BY_REFERENCE = f"SELECT {COLUMNS} FROM batches WHERE reference > :after {{}} ORDER BY reference LIMIT :most"  # noqa: S608
_ALL = text(_BY_REFERENCE.format(""))
_QUARANTINED = text(_BY_REFERENCE.format(f"AND {_IS_QUARANTINED}"))

_LATE = f"""
    SELECT * FROM batches WHERE {{is_late}} AND ({{day}}, reference) > ({{last}}, :after) AND {IS_SOLD}
      AND (CAST(:sku AS text) IS NULL OR sku = :sku)
    ORDER BY {{day}}, reference LIMIT :most
"""  # noqa: S608 - all of it is our own
_RECORDED_LATE = _LATE.format(is_late="overdue", day="eta", last=":day")
_NEWLY_LATE = _LATE.format(is_late=NEWLY_OVERDUE, day="eta + 1", last="CAST(:day AS date) + 1")
# A day that has passed is recorded within a second or so: there is an index of those that it is of, and of the others.
_OVERDUE = text(f"""
    SELECT {COLUMNS} FROM (({_RECORDED_LATE}) UNION ALL ({_NEWLY_LATE})) AS late
    WHERE eta < {TODAY} AND (NOT CAST(:quarantined AS boolean) OR {_IS_QUARANTINED})
    ORDER BY eta, reference LIMIT :most
""")  # noqa: S608 - all of it is our own
