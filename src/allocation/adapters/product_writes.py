"""What is written of products, batches, lines and documents: the difference between what was read and what is now.

Counters are written as differences: the CHECK constraint, the last line of defence, then compares with the row as it
is. Rows of each table are sorted by key, so that two who write the same rows meet at the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import attrgetter
from operator import or_ as or_bits
from typing import Any, TypeAlias

from sqlalchemy import and_, delete, or_, update

from allocation.adapters.product_queries import BATCH_FIELDS, DOCUMENT_KEY, TERMS, place_of
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
from allocation.domain.documents import DocumentKey, Entry
from allocation.domain.holds import Hold, HoldKey
from allocation.domain.lines import SINGLE_LINE, Allocation, PlacedLine
from allocation.domain.product import Product
from messaging.sql.statements import Row, Statement, Write, insert_or_update_rows, insert_rows, rows_of, write_rows

Change: TypeAlias = tuple[PlacedLine | None, PlacedLine]
"""A line as it was read, and as it is now."""

_row_of = attrgetter(*BATCH_FIELDS)
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
_TERMS = ("eta", "expires", "initial_eta", "initial_expires", "added", "overdue", "expired")
_terms_of = attrgetter(*_TERMS)
_PLACES_OF_TERMS = [BATCH_FIELDS.index(name) for name in _TERMS]


def of_products(now: Iterable[Product], versions: Mapping[str, int]) -> Iterator[Statement]:
    """`versions`: as they were read, 0 for one that is new."""
    known: list[Row] = []
    new: list[Row] = []
    for product in now:
        counts = {"version_number": product.version_number, "waiting": product.waiting, "holds": product.hold_count}
        row = {"sku": product.sku} | counts
        (known if versions[product.sku] else new).append(row)
    yield from _those_with_rows((_UPDATE_PRODUCTS, known), (_INSERT_PRODUCTS, new))  # who waits for a lock has no key


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
        if tuple(before[place] for place in _PLACES_OF_TERMS) != _terms_of(batch):
            moved.append(key | {name: getattr(batch, name) for name in _TERMS})
        by: Row = {column: after[place] - before[place] for column, place in _COUNTERS.items()}
        if any(by.values()):
            differing.append(key | by)
    if created:
        yield _INSERT_BATCH_REFERENCES, created
        yield _INSERT_BATCHES, created
    if moved:  # first, since nothing is dispatched of a batch that is expected
        yield _UPDATE_TERMS, moved
    if differing:
        yield _UPDATE_BATCHES, differing


def of_lines(changes: Sequence[Change], cancelled: Collection[str]) -> Iterator[Statement]:
    """With what they have and wait for. An order is written that gets a line, or is `cancelled`."""
    touched = {orderid: {"orderid": orderid, "cancelled": True} for orderid in cancelled}
    for before, now in changes:
        if now.has_pieces and not (before and before.has_pieces):
            touched.setdefault(now.orderid, {"orderid": now.orderid, "cancelled": False})
    if touched:
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
    yield from _those_with_rows((_DELETE_HOLDS, ended), (_UPDATE_HOLDS, changed), (_INSERT_HOLDS, new))


def of_documents(new: Mapping[DocumentKey, Sequence[Entry]]) -> Iterator[Statement]:
    rows: list[Row] = [
        dict(zip(DOCUMENT_KEY, key, strict=True)) | {"version": entry.version, "sku": entry.event.sku}
        for key, entries in sorted(new.items())
        for entry in entries
    ]
    yield from _those_with_rows((_INSERT_DOCUMENTS, rows))


def _order_line_statements(changes: Sequence[Change]) -> Iterator[Statement]:
    changed: list[Row] = []
    new: list[Row] = []
    for before, now in changes:
        if before is None:
            new.append(_line_row(now))
        elif (row := _line_row(now)) != _line_row(before):
            changed.append(row)
    yield from _those_with_rows((_UPDATE_ORDER_LINES, changed), (_INSERT_ORDER_LINES, new))


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
    yield from _those_with_rows(
        (_DELETE_ALLOCATIONS, removed), (_UPDATE_ALLOCATIONS, changed), (_INSERT_ALLOCATIONS, new)
    )


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
    yield from _those_with_rows((_DELETE_BACKORDERS, gone), (_UPDATE_BACKORDERS, changed), (_INSERT_BACKORDERS, new))


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
        "places": reduce(or_bits, map(place_of, line.terms.locations)) if line.terms.locations else ANYWHERE,
    }


ANYWHERE = 2**62 - 1


def _those_with_rows(*statements: tuple[Write, list[Row]]) -> Iterator[Statement]:
    return ((write, rows) for write, rows in statements if rows)


def _allocation_row(allocation: Allocation) -> Row:
    row = asdict(allocation)
    return row | {"qty": row.pop("promised")}


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
        "terms": None if line.terms is SINGLE_LINE else TERMS.dump_python(line.terms, mode="json"),
    }


_COUNTS = ("version_number", "waiting", "holds")
_versions = rows_of(products.c.sku, *(products.c[name] for name in _COUNTS))
_INSERT_PRODUCTS = insert_rows(products, "sku", *_COUNTS)
_UPDATE_PRODUCTS = write_rows(
    update(products).values({name: _versions.c[name] for name in _COUNTS}).where(products.c.sku == _versions.c.sku)
)

_INSERT_BATCH_REFERENCES = insert_rows(batch_references, "reference", "sku")
_INSERT_BATCHES = insert_rows(batches, "sku", "reference", "initial_quantity", "location", *_TERMS, *_COUNTERS)
_differences = rows_of(batches.c.sku, batches.c.reference, *(batches.c[name] for name in _COUNTERS))
_UPDATE_BATCHES = write_rows(
    update(batches)
    .values({name: batches.c[name] + _differences.c[name] for name in _COUNTERS})
    .where(and_(batches.c.sku == _differences.c.sku, batches.c.reference == _differences.c.reference))
)
_terms = rows_of(batches.c.sku, batches.c.reference, *(batches.c[name] for name in _TERMS))
_UPDATE_TERMS = write_rows(
    update(batches)
    .values({name: _terms.c[name] for name in _TERMS})
    .where(and_(batches.c.sku == _terms.c.sku, batches.c.reference == _terms.c.reference))
)

_TOUCH_ORDERS = insert_or_update_rows(
    orders, ["orderid"], ["cancelled"], lambda given: {"cancelled": or_(orders.c.cancelled, given.cancelled)}
)

_LINE_COLUMNS = ("sku", "version", "others", "returned", "since", "terms")
_now_lines = rows_of(order_lines.c.orderid, order_lines.c.lineid, *(order_lines.c[name] for name in _LINE_COLUMNS))
_is_changed = and_(order_lines.c.orderid == _now_lines.c.orderid, order_lines.c.lineid == _now_lines.c.lineid)
_UPDATE_ORDER_LINES = write_rows(
    update(order_lines).values({name: _now_lines.c[name] for name in _LINE_COLUMNS}).where(_is_changed)
)
_INSERT_ORDER_LINES = insert_rows(order_lines, "orderid", "lineid", *_LINE_COLUMNS)

_left = rows_of(allocations.c.sku, allocations.c.version)
_DELETE_ALLOCATIONS = write_rows(
    delete(allocations).where(and_(allocations.c.sku == _left.c.sku, allocations.c.version == _left.c.version))
)
_by = rows_of(allocations.c.sku, allocations.c.version, allocations.c.qty, allocations.c.dispatched)
_UPDATE_ALLOCATIONS = write_rows(
    update(allocations)
    .values(qty=allocations.c.qty + _by.c.qty, dispatched=allocations.c.dispatched + _by.c.dispatched)
    .where(and_(allocations.c.sku == _by.c.sku, allocations.c.version == _by.c.version))
)
_INSERT_ALLOCATIONS = insert_rows(
    allocations, "sku", "version", "orderid", "lineid", "qty", "batchref", "dispatched", "priority", "needed_by"
)

_out = rows_of(backorders.c.sku, backorders.c.since)
_DELETE_BACKORDERS = write_rows(
    delete(backorders).where(and_(backorders.c.sku == _out.c.sku, backorders.c.since == _out.c.since))
)
_waits = rows_of(backorders.c.sku, backorders.c.since, backorders.c.qty, backorders.c.needs)
_UPDATE_BACKORDERS = write_rows(
    update(backorders)
    .values(qty=_waits.c.qty, needs=_waits.c.needs)
    .where(and_(backorders.c.sku == _waits.c.sku, backorders.c.since == _waits.c.since))
)
_INSERT_BACKORDERS = insert_rows(
    backorders, "sku", "since", "orderid", "lineid", "qty", "needs", "turn", "needed_by", "places"
)

_over = rows_of(holds.c.sku, holds.c.hold_id)
_DELETE_HOLDS = write_rows(delete(holds).where(and_(holds.c.sku == _over.c.sku, holds.c.hold_id == _over.c.hold_id)))
_OF_HOLD = ("qty", "batchref", "until", "version")
_held = rows_of(holds.c.sku, holds.c.hold_id, *(holds.c[name] for name in _OF_HOLD))
_UPDATE_HOLDS = write_rows(
    update(holds)
    .values({name: _held.c[name] for name in _OF_HOLD})
    .where(and_(holds.c.sku == _held.c.sku, holds.c.hold_id == _held.c.hold_id))
)
_INSERT_HOLDS = insert_rows(holds, "sku", "hold_id", *_OF_HOLD)

_INSERT_DOCUMENTS = insert_rows(documents, *DOCUMENT_KEY, "version", "sku")
