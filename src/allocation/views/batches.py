"""A batch as it is now, and the SQL with which others ask for the batches of a SKU."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is now; `eta` null: in the warehouse."""

    ref: str
    sku: str
    qty: int
    allocated: int
    available: int
    eta: date | None


COLUMNS = """
    reference, sku, purchased_quantity, allocated_quantity, purchased_quantity - allocated_quantity AS available, eta
"""
"""Of a Batch, in its order."""

PREFERRED_FIRST = "eta NULLS FIRST, added"


def batch(asked: Connection, reference: str) -> Batch | None:
    row = asked.execute(_BATCH, {"reference": reference}).one_or_none()
    return Batch(*row) if row else None


def batches(asked: Connection, sku: str, after: str | None, most: int) -> list[Batch]:
    """The next in the order of allocation, behind the one with the reference `after`; none behind another SKU's."""
    return [Batch(*row) for row in asked.execute(_BATCHES, {"sku": sku, "after": after, "most": most})]


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

# Neither of the two ever changes in a batch, so that a page goes on where the last one ended.
_PLACE = "coalesce(eta, '-infinity'), added"
_BATCHES = text(f"""
    SELECT {COLUMNS} FROM {all_batches_of(":sku")} AS every
    WHERE CAST(:after AS text) IS NULL
       OR ({_PLACE}) > (SELECT {_PLACE} FROM batches WHERE reference = :after AND sku = :sku)
    ORDER BY {_PLACE} LIMIT :most
""")  # noqa: S608 - all of it is our own
