"""The new events of a unit of work, folded into one net change per row.

Folding matters: within a reallocation a batch is for a moment promised more than it holds, and the CHECK constraint,
the last line of defence, must never see that moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import assert_never

from sqlalchemy import BigInteger, and_, column, delete, func, update

from allocation.adapters.tables import allocations, batch_references, batches, order_lines, products
from allocation.domain.events import Allocated, BatchCreated, BatchQuantityChanged, Deallocated, Event, OutOfStock
from allocation.domain.model import LineKey, OrderLine, Promise
from messaging.sql.statements import Row, Statement, insert_rows, rows_of, write_rows


@dataclass(slots=True)
class _BatchChange:
    allocated_by: int = 0
    purchased: int | None = None


@dataclass(slots=True)
class _LineChange:
    was_stored: bool
    allocated: Allocated | None = None
    version: int = 0

    @property
    def promise(self) -> Promise | None:
        made = self.allocated
        return Promise(OrderLine.of(made), made.batchref) if made else None


@dataclass(slots=True)
class Changes:
    versions: dict[str, tuple[int, int]] = field(default_factory=dict)  # sku: version before, version now
    created: dict[str, tuple[BatchCreated, int]] = field(default_factory=dict)  # reference: event, version
    lines: dict[LineKey, _LineChange] = field(default_factory=dict)
    _batches: dict[tuple[str, str], _BatchChange] = field(default_factory=dict, init=False)

    def add(self, sku: str, version: int, event: Event) -> None:
        before, _ = self.versions.get(sku, (version - 1, version))
        self.versions[sku] = before, version
        match event:
            case BatchCreated():
                self.created[event.ref] = event, version
            case BatchQuantityChanged():
                self._batch(sku, event.ref).purchased = event.qty
            case Allocated():
                line = self.lines.setdefault((event.orderid, event.lineid), _LineChange(was_stored=False))
                line.allocated, line.version = event, version
                self._batch(sku, event.batchref).allocated_by += event.qty
            case Deallocated():
                line = self.lines.setdefault((event.orderid, event.lineid), _LineChange(was_stored=True))
                line.allocated = None
                self._batch(sku, event.batchref).allocated_by -= event.qty
            case OutOfStock():
                pass
            case _:
                assert_never(event)

    def _batch(self, sku: str, reference: str) -> _BatchChange:
        return self._batches.setdefault((sku, reference), _BatchChange())

    def statements(self) -> Iterator[Statement]:
        yield from self._product_statements()
        yield from self._batch_statements()
        yield from self._line_statements()

    def _product_statements(self) -> Iterator[Statement]:
        rows = [(before, {"sku": sku, "version_number": now}) for sku, (before, now) in self.versions.items()]
        if new := [row for before, row in rows if not before]:
            yield _INSERT_PRODUCTS, new
        if known := [row for before, row in rows if before]:
            yield _UPDATE_PRODUCTS, known

    def _batch_statements(self) -> Iterator[Statement]:
        if self.created:
            created = [
                {
                    "sku": event.sku,
                    "reference": event.ref,
                    "eta": event.eta,
                    "initial_quantity": event.qty,
                    "purchased_quantity": event.qty,
                    "allocated_quantity": 0,
                    "added": version,
                }
                for event, version in self.created.values()
            ]
            yield _INSERT_BATCH_REFERENCES, created
            yield _INSERT_BATCHES, created
        if self._batches:
            changed = [
                {"sku": sku, "reference": ref, "allocated_by": batch.allocated_by, "purchased": batch.purchased}
                for (sku, ref), batch in self._batches.items()
            ]
            yield _UPDATE_BATCHES, changed

    def _line_statements(self) -> Iterator[Statement]:
        broken: list[Row] = []
        moved: list[Row] = []
        new: list[Row] = []
        promised: list[Row] = []
        for (orderid, lineid), line in self.lines.items():
            key: Row = {"orderid": orderid, "lineid": lineid}
            if line.allocated:
                placed = key | {"sku": line.allocated.sku, "version": line.version}
                (moved if line.was_stored else new).append(placed)
                promised.append(placed | {"qty": line.allocated.qty, "batchref": line.allocated.batchref})
            elif line.was_stored:
                broken.append(key)
        if left := broken + moved:
            yield _DELETE_ALLOCATIONS, left
        if broken:
            yield _DELETE_ORDER_LINES, broken
        if moved:
            yield _UPDATE_ORDER_LINES, moved
        if new:
            yield _INSERT_ORDER_LINES, new
        if promised:
            yield _INSERT_ALLOCATIONS, promised


_versions = rows_of(products.c.sku, products.c.version_number)
_INSERT_PRODUCTS = insert_rows(products, "sku", "version_number")
_UPDATE_PRODUCTS = write_rows(
    update(products).values(version_number=_versions.c.version_number).where(products.c.sku == _versions.c.sku)
)

_INSERT_BATCH_REFERENCES = insert_rows(batch_references, "reference", "sku")
_INSERT_BATCHES = insert_rows(
    batches, "sku", "reference", "eta", "initial_quantity", "purchased_quantity", "allocated_quantity", "added"
)
_differences = rows_of(
    batches.c.sku, batches.c.reference, column("allocated_by", BigInteger), column("purchased", BigInteger)
)
_UPDATE_BATCHES = write_rows(
    update(batches)
    .values(
        allocated_quantity=batches.c.allocated_quantity + _differences.c.allocated_by,
        purchased_quantity=func.coalesce(_differences.c.purchased, batches.c.purchased_quantity),
    )
    .where(and_(batches.c.sku == _differences.c.sku, batches.c.reference == _differences.c.reference))
)

_left = rows_of(order_lines.c.orderid, order_lines.c.lineid)
_is_left = and_(order_lines.c.orderid == _left.c.orderid, order_lines.c.lineid == _left.c.lineid)
_DELETE_ORDER_LINES = write_rows(delete(order_lines).where(_is_left))
_DELETE_ALLOCATIONS = write_rows(
    delete(allocations).where(
        and_(_is_left, allocations.c.sku == order_lines.c.sku, allocations.c.version == order_lines.c.version)
    )
)
_moved = rows_of(order_lines.c.orderid, order_lines.c.lineid, order_lines.c.sku, order_lines.c.version)
_is_moved = and_(order_lines.c.orderid == _moved.c.orderid, order_lines.c.lineid == _moved.c.lineid)
_UPDATE_ORDER_LINES = write_rows(
    update(order_lines).values(sku=_moved.c.sku, version=_moved.c.version).where(_is_moved)
)
_INSERT_ORDER_LINES = insert_rows(order_lines, "orderid", "lineid", "sku", "version")
_INSERT_ALLOCATIONS = insert_rows(allocations, "sku", "version", "orderid", "lineid", "qty", "batchref")
