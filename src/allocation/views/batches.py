"""A batch as it is now, and the SQL with which others ask for the batches of a SKU."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from sqlalchemy import Connection, text

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


TODAY = "CAST(statement_timestamp() AT TIME ZONE :zone AS date)"
"""The day that it is in the time zone `zone`."""

IS_SOLD = f"coalesce(expires >= {TODAY}, true)"
"""That it has not expired: what has is in no number of what there is."""

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


def batches(connection: Connection, sku: str, after: str | None, most: int, zone: str) -> list[Batch]:
    """The next in the order of allocation, behind the one with the reference `after`; none behind another SKU's."""
    about = {"sku": sku, "after": after, "most": most, "zone": zone}
    return [Batch(*row) for row in connection.execute(_BATCHES, about)]


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

# They seldom change in a batch, so that a page goes on where the last one ended.
_PLACE = "coalesce(eta, '-infinity'), coalesce(expires, 'infinity'), added"
_BATCHES = text(f"""
    SELECT {COLUMNS} FROM {all_batches_of(":sku")} AS every
    WHERE CAST(:after AS text) IS NULL
       OR ({_PLACE}) > (SELECT {_PLACE} FROM batches WHERE reference = :after AND sku = :sku)
    ORDER BY {_PLACE} LIMIT :most
""")  # noqa: S608 - all of it is our own
