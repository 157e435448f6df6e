"""What is written of products, batches, lines and documents: the difference between what was read and what is now.

Counters are written as differences: the CHECK constraint, the last line of defence, then compares with the row as it
is. Rows of each table are sorted by key, so that two who write the same rows meet at the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from functools import reduce
from operator import attrgetter
from operator import or_ as or_bits
from typing import Any, TypeAlias

from sqlalchemy import or_

from allocation.adapters.product_queries import ALLOCATION_COLUMNS, BATCH_FIELDS, DOCUMENT_KEY, LINE_TERMS, location_bit
from allocation.database.tables import (
    allocations,
    backorders,
    batch_references,
    batches,
    documents,
    holds,
    order_lines,
    orders,
    products,
)
from allocation.domain.batches import Batch
from allocation.domain.documents import DocumentedEvent, DocumentKey
from allocation.domain.holds import Hold, HoldKey
from allocation.domain.lines import SINGLE_LINE, Allocation, PlacedLine
from allocation.domain.product import Product
from messaging.sql.statements import Row, Statement, delete_rows, insert_or_update_rows, insert_rows, update_rows

Change: TypeAlias = tuple[PlacedLine | None, PlacedLine]
"""A line as it was read, and as it is now."""

_row_of = attrgetter(*BATCH_FIELDS)
_values_of_allocation = attrgetter(*(field.name for field in fields(Allocation)))
_COUNTERS = {
    column: BATCH_FIELDS.index(field)
    for column, field in {
        "purchased_quantity": "purchased_quantity",
        "allocated_quantity": "taken_quantity",
        "held_quantity": "held_quantity",
        "dispatched_quantity": "dispatched_quantity",
        "quarantined_quantity": "quarantined_quantity",
    }.items()
}
_DATES = ("eta", "expires", "initial_eta", "initial_expires", "added", "overdue", "expired")
_dates_of = attrgetter(*_DATES)
_PLACES_OF_DATES = [BATCH_FIELDS.index(name) for name in _DATES]


def of_products(now: Iterable[Product], versions: Mapping[str, int]) -> Iterator[Statement]:
    """`versions`: as they were read, 0 for one that is new."""
    known: list[Row] = []
    new: list[Row] = []
    for product in now:
        counts = {"version_number": product.version_number, "waiting": product.waiting, "holds": product.hold_count}
        row = {"sku": product.sku} | counts
        (known if versions[product.sku] else new).append(row)
    yield _UPDATE_PRODUCTS, known  # first: who waits for a lock has no key
    yield _INSERT_PRODUCTS, new


def of_batches(now: Iterable[Batch], rows: Mapping[str, tuple[Any, ...] | None]) -> Iterator[Statement]:
    """`rows`: as they were read."""
    created: list[Row] = []
    moved: list[Row] = []
    differing: list[Row] = []
    for batch in now:
        before = rows.get(batch.reference)
        if before is None:
            row = asdict(batch)
            created.append(row | {"allocated_quantity": row.pop("taken_quantity")})
            continue
        after = _row_of(batch)
        if after == before:
            continue
        key: Row = {"sku": batch.sku, "reference": batch.reference}
        if tuple(before[place] for place in _PLACES_OF_DATES) != _dates_of(batch):
            moved.append(key | {name: getattr(batch, name) for name in _DATES})
        by: Row = {column: after[place] - before[place] for column, place in _COUNTERS.items()}
        if any(by.values()):
            differing.append(key | by)
    yield _INSERT_BATCH_REFERENCES, created
    yield _INSERT_BATCHES, created
    yield _UPDATE_DATES, moved  # first, since nothing is dispatched of a batch that is expected
    yield _UPDATE_BATCHES, differing


def of_lines(changes: Sequence[Change], cancelled: Collection[str]) -> Iterator[Statement]:
    """With what they have and wait for. An order is written that gets a line, or is `cancelled`."""
    touched = {orderid: {"orderid": orderid, "cancelled": True} for orderid in cancelled}
    for before, now in changes:
        if now.has_pieces and not (before and before.has_pieces):
            touched.setdefault(now.orderid, {"orderid": now.orderid, "cancelled": False})
    yield _TOUCH_ORDERS, [touched[orderid] for orderid in sorted(touched)]
    yield from _order_line_statements(changes)
    yield from _allocation_statements(changes)
    yield from _backorder_statements(changes)


def of_holds(now: Mapping[HoldKey, Hold | None], before: Mapping[HoldKey, Hold | None]) -> Iterator[Statement]:
    """`before`: as they were read."""
    ended: list[Row] = []
    changed: list[Row] = []
    new: list[Row] = []
    for key, hold in sorted(now.items()):
        was = before.get(key)
        if hold and not was:
            new.append(asdict(hold))
        elif hold and hold != was:
            changed.append(asdict(hold))
        elif was and not hold:
            ended.append({"sku": was.sku, "hold_id": was.hold_id})
    yield _DELETE_HOLDS, ended
    yield _UPDATE_HOLDS, changed
    yield _INSERT_HOLDS, new


def of_documents(new: Mapping[DocumentKey, Sequence[DocumentedEvent]]) -> Iterator[Statement]:
    rows: list[Row] = [
        dict(zip(DOCUMENT_KEY, key, strict=True)) | {"version": entry.version, "sku": entry.event.sku}
        for key, entries in sorted(new.items())
        for entry in entries
    ]
    yield _INSERT_DOCUMENTS, rows


def _order_line_statements(changes: Sequence[Change]) -> Iterator[Statement]:
    changed: list[Row] = []
    new: list[Row] = []
    for before, now in changes:
        if before is None:
            new.append(_line_row(now))
        elif (row := _line_row(now)) != _line_row(before):
            changed.append(row)
    yield _UPDATE_ORDER_LINES, changed
    yield _INSERT_ORDER_LINES, new


def _allocation_statements(changes: Sequence[Change]) -> Iterator[Statement]:
    removed: list[Row] = []
    changed: list[Row] = []
    new: list[Row] = []
    for before, now in changes:
        had = {(one.sku, one.version): one for one in before.allocations} if before else {}
        for one in now.allocations:
            was = had.pop((one.sku, one.version), None) if had else None
            if was is None:
                new.append(_allocation_row(one))
            elif one != was:
                by = {"qty": one.promised - was.promised, "dispatched": one.dispatched - was.dispatched}
                changed.append({"sku": one.sku, "version": one.version} | by)
        removed += [{"sku": sku, "version": version} for sku, version in had]
    yield _DELETE_ALLOCATIONS, removed
    yield _UPDATE_ALLOCATIONS, changed
    yield _INSERT_ALLOCATIONS, new


def _backorder_statements(changes: Sequence[Change]) -> Iterator[Statement]:
    gone: list[Row] = []
    changed: list[Row] = []
    new: list[Row] = []
    for before, now in changes:
        was = before and before.waiting and backorder_row(before)
        row = now.waiting and backorder_row(now)
        if was and (not row or (was["sku"], was["since"]) != (row["sku"], row["since"])):
            gone.append({"sku": was["sku"], "since": was["since"]})
            was = None
        if row and not was:
            new.append(row)
        elif row and row != was:
            changed.append(row)
    yield _DELETE_BACKORDERS, gone
    yield _UPDATE_BACKORDERS, changed
    yield _INSERT_BACKORDERS, new


def backorder_row(line: PlacedLine) -> Row:
    return {
        "sku": line.sku,
        "since": line.since,
        "orderid": line.orderid,
        "lineid": line.lineid,
        "qty": line.waiting,
        "needs": 1 if line.terms.may_split else line.waiting,
        "turn": -line.terms.priority,
        "needed_by": line.terms.needed_by,
        "places": reduce(or_bits, map(location_bit, line.terms.locations)) if line.terms.locations else ANYWHERE,
    }


ANYWHERE = 2**62 - 1


def _allocation_row(allocation: Allocation) -> Row:
    return dict(zip(ALLOCATION_COLUMNS, _values_of_allocation(allocation), strict=True))


def _line_row(line: PlacedLine) -> Row:
    versions = [allocation.version for allocation in line.allocations]
    return {
        "orderid": line.orderid,
        "lineid": line.lineid,
        "sku": line.sku,
        "version": versions[0] if versions else None,
        "others": versions[1:] or None,
        "returned": line.returned,
        "since": line.since or None,
        "terms": None if line.terms is SINGLE_LINE else LINE_TERMS.dump_python(line.terms, mode="json"),
    }


_COUNTS = ("version_number", "waiting", "holds")
_INSERT_PRODUCTS = insert_rows(products, "sku", *_COUNTS)
_UPDATE_PRODUCTS = update_rows(products, ["sku"], _COUNTS)

_BATCH_KEY = ("sku", "reference")
_INSERT_BATCH_REFERENCES = insert_rows(batch_references, "reference", "sku")
_INSERT_BATCHES = insert_rows(batches, *_BATCH_KEY, "initial_quantity", "location", *_DATES, *_COUNTERS)
_UPDATE_BATCHES = update_rows(batches, _BATCH_KEY, adds=tuple(_COUNTERS))
_UPDATE_DATES = update_rows(batches, _BATCH_KEY, _DATES)

_TOUCH_ORDERS = insert_or_update_rows(
    orders, ["orderid"], ["cancelled"], lambda given: {"cancelled": or_(orders.c.cancelled, given.cancelled)}
)

_LINE_KEY, _OF_LINE = ("orderid", "lineid"), ("sku", "version", "others", "returned", "since", "terms")
_INSERT_ORDER_LINES = insert_rows(order_lines, *_LINE_KEY, *_OF_LINE)
_UPDATE_ORDER_LINES = update_rows(order_lines, _LINE_KEY, _OF_LINE)

_ALLOCATION_KEY = ("sku", "version")
_INSERT_ALLOCATIONS = insert_rows(allocations, *ALLOCATION_COLUMNS)
_UPDATE_ALLOCATIONS = update_rows(allocations, _ALLOCATION_KEY, adds=["qty", "dispatched"])
_DELETE_ALLOCATIONS = delete_rows(allocations, _ALLOCATION_KEY)

_BACKORDER_KEY = ("sku", "since")
_INSERT_BACKORDERS = insert_rows(
    backorders, *_BACKORDER_KEY, "orderid", "lineid", "qty", "needs", "turn", "needed_by", "places"
)
_UPDATE_BACKORDERS = update_rows(backorders, _BACKORDER_KEY, ["qty", "needs"])
_DELETE_BACKORDERS = delete_rows(backorders, _BACKORDER_KEY)

_HOLD_KEY, _OF_HOLD = ("sku", "hold_id"), ("qty", "batchref", "until", "version")
_INSERT_HOLDS = insert_rows(holds, *_HOLD_KEY, *_OF_HOLD)
_UPDATE_HOLDS = update_rows(holds, _HOLD_KEY, _OF_HOLD)
_DELETE_HOLDS = delete_rows(holds, _HOLD_KEY)

_INSERT_DOCUMENTS = insert_rows(documents, *DOCUMENT_KEY, "version", "sku")
