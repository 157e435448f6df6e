"""Products from rows and back: loaded in constant time, and what differs at the end is written.

The version and the best open batches of a product are read at once, the rest when a rule needs it. What was read is
kept as it was, so that a row is written only where a batch or a line is not what was read. Counters are written as
differences: the CHECK constraint, the last line of defence, then compares with the row as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any

from sqlalchemy import and_, delete, literal_column, select, true, union, update

from allocation.database.tables import allocations, batch_references, batches, order_lines, products
from allocation.domain.batches import Batch, Batches
from allocation.domain.errors import UnknownBatch
from allocation.domain.events import Event
from allocation.domain.lines import Allocation, Allocations, LineKey, OrderLine
from allocation.domain.product import Product
from allocation.service_layer.ports import Lookups
from messaging.envelope import NewEvent
from messaging.sql.statements import (
    Ask,
    Query,
    Row,
    Rows,
    Statement,
    compiled,
    insert_rows,
    rows_of,
    write_rows,
)

AT_HAND = 20
"""Of so many open batches a product is loaded with, the preferred ones: mostly the first has room."""

_FIELDS = [field.name for field in fields(Batch)]
_BATCH = [batches.c[name] for name in _FIELDS]  # by position: a thousand by name take three times as long
_row_of = attrgetter(*_FIELDS)
_COUNTERS = {name: _FIELDS.index(name) for name in ("purchased_quantity", "allocated_quantity")}


class SqlAlchemyProducts:
    """The products of one unit of work. `ask` reads in its transaction."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        # As it was read:
        self._versions: dict[str, int] = {}
        self._open: defaultdict[str, list[str]] = defaultdict(list)
        self._rows: dict[str, tuple[Any, ...] | None] = {}
        self._lines: dict[LineKey, Allocation | None] = {}
        self.locked_elsewhere: set[str] = set()
        # As it is now:
        self._new: list[NewEvent[Event]] = []
        self._collected = 0
        self._start_from_what_was_read()

    def get(self, sku: str) -> Product:
        if sku not in self._loaded:
            if sku not in self._versions:
                self.take(self._ask(*self.queries(Lookups(skus=[sku]))))
            at_hand = [Batch(*self._rows[reference]) for reference in self._open[sku]]  # type: ignore[misc]  # these are there
            horizon = at_hand[-1].preference if len(at_hand) == AT_HAND else None
            self._batches.load(sku, at_hand, horizon)
            self._loaded[sku] = Product(sku, self._versions[sku], self._batches, self._allocations, self._record)
        return self._loaded[sku]

    def get_by_batchref(self, batchref: str) -> Product:
        batch = self._batches.get(batchref)
        if batch is None:
            raise UnknownBatch(batchref)
        return self.get(batch.sku)

    def collect_new_events(self) -> list[NewEvent[Event]]:
        new = self._new[self._collected :]
        self._collected = len(self._new)
        return new

    def discard_new_events(self) -> None:
        """Everything is again as it was when events were last collected."""
        if len(self._new) == self._collected:
            return
        del self._new[self._collected :]
        self._start_from_what_was_read()
        for new in self._new:
            self.get(new.stream).apply(new.event)

    def _start_from_what_was_read(self) -> None:
        self._batches = Batches(self)
        self._allocations = Allocations(self)
        self._loaded: dict[str, Product] = {}

    def _record(self, product: Product, event: Event) -> None:
        self._new.append(NewEvent(product.sku, product.version_number, event))

    # --- reading -------------------------------------------------------------------

    def queries(self, lookups: Lookups) -> Iterator[Query]:
        """What must be read of these before a rule can be applied, and was not read yet."""
        if skus := [sku for sku in dict.fromkeys(lookups.skus) if sku not in self._versions]:
            yield Query(_PRODUCTS, [{"sku": sku} for sku in skus])
        if references := [one for one in dict.fromkeys(lookups.batchrefs) if one not in self._rows]:
            self._rows |= dict.fromkeys(references)
            yield Query(_BATCHES, [{"reference": reference} for reference in references])
        if keys := [key for key in dict.fromkeys(lookups.lines) if key not in self._lines]:
            self._lines |= dict.fromkeys(keys)
            yield Query(_ALLOCATIONS, [{"orderid": orderid, "lineid": lineid} for orderid, lineid in keys])

    def take(self, answers: Mapping[str, Rows]) -> None:
        """What was read."""
        for version, *batch in answers.get(_PRODUCTS, ()):
            reference, sku, *_ = batch
            self._versions[sku] = version or 0
            if reference is not None:
                self._rows[reference] = tuple(batch)
                self._open[sku].append(reference)
        self._rows |= {row[0]: row for row in answers.get(_BATCHES, ())}
        for row in answers.get(_ALLOCATIONS, ()):
            allocation = _allocation(*row)
            self._lines[allocation.line.key] = allocation
        if _LOCK_FREE in answers:
            ours = {sku for (sku,) in answers[_LOCK_FREE]}
            self.locked_elsewhere = {sku for sku, version in self._versions.items() if version and sku not in ours}

    def batch(self, reference: str) -> Batch | None:
        if reference not in self._rows:
            self.take(self._ask(*self.queries(Lookups(batchrefs=[reference]))))
        row = self._rows[reference]
        return Batch(*row) if row else None

    def later_batches(self, sku: str) -> list[Batch]:
        rows = self._ask(Query(_LATER_BATCHES, [{"sku": sku}]))[_LATER_BATCHES]
        self._rows |= {row[0]: row for row in rows}
        return [Batch(*row) for row in rows]

    def allocation(self, key: LineKey) -> Allocation | None:
        if key not in self._lines:
            self.take(self._ask(*self.queries(Lookups(lines=[key]))))
        return self._lines[key]

    def newest_allocations(self, batch: Batch) -> Iterator[Allocation]:
        version = _NEWEST
        while True:
            before = {"sku": batch.sku, "batchref": batch.reference, "version": version}
            rows = self._ask(Query(_OLDER_ALLOCATIONS, [before]))[_OLDER_ALLOCATIONS]
            if not rows:
                return
            for row in rows:
                allocation = _allocation(*row)
                version = allocation.version
                self._lines[allocation.line.key] = allocation
                yield allocation

    def locks(self, lookups: Lookups, *, wait: bool) -> Query:
        """Let others wait who would write these products; always in one order, so that two who lock don't get stuck.
        Without `wait`, those that nobody has locked."""
        if not wait:
            return Query(_LOCK_FREE, [{"sku": sku} for sku in sorted(set(lookups.skus))])
        rows: list[Row] = [{"sku": sku} for sku in lookups.skus]
        rows += [{"reference": reference} for reference in lookups.batchrefs]
        return Query(_LOCK, rows)

    # --- writing -------------------------------------------------------------------

    def statements(self) -> Iterator[Statement]:
        """What differs from what was read, sorted by key, so that two who write the same rows meet at the first."""
        changed = sorted({new.stream for new in self._new})
        versions = {sku: {"sku": sku, "version_number": self._loaded[sku].version_number} for sku in changed}
        if known := [
            row for sku, row in versions.items() if self._versions[sku]
        ]:  # whoever waits for a lock has no key
            yield _UPDATE_PRODUCTS, known
        if new := [row for sku, row in versions.items() if not self._versions[sku]]:
            yield _INSERT_PRODUCTS, new
        yield from self._batch_statements(sorted(self._batches_of(changed), key=lambda batch: batch.reference))
        yield from self._line_statements()

    def _batches_of(self, skus: Iterable[str]) -> Iterator[Batch]:
        for sku in skus:
            yield from self._batches.of(sku)

    def _batch_statements(self, now: Iterable[Batch]) -> Iterator[Statement]:
        created: list[Row] = []
        differing: list[Row] = []
        for batch in now:
            before = self._rows.get(batch.reference)
            if before is None:
                created.append(asdict(batch))
            elif _row_of(batch) != before:
                by: Row = {name: getattr(batch, name) - before[place] for name, place in _COUNTERS.items()}
                differing.append({"sku": batch.sku, "reference": batch.reference} | by)
        if created:
            yield _INSERT_BATCH_REFERENCES, created
            yield _INSERT_BATCHES, created
        if differing:
            yield _UPDATE_BATCHES, differing

    def _line_statements(self) -> Iterator[Statement]:
        new: list[Row] = []
        moved: list[Row] = []
        removed: list[Row] = []
        left: list[Row] = []
        for key, now in sorted(self._allocations.changed.items()):
            before = self._lines.get(key)
            row: Row = {"orderid": key[0], "lineid": key[1]}
            if before:
                left.append({"sku": before.line.sku, "version": before.version})
            if now:
                (moved if before else new).append(row | {"sku": now.line.sku, "version": now.version})
            elif before:
                removed.append(row)
        made = [
            {
                "sku": allocation.line.sku,
                "version": allocation.version,
                "orderid": allocation.line.orderid,
                "lineid": allocation.line.lineid,
                "qty": allocation.line.qty,
                "batchref": allocation.batchref,
            }
            for allocation in self._allocations
        ]
        for write, rows in (
            (_DELETE_ORDER_LINES, removed),
            (_UPDATE_ORDER_LINES, moved),
            (_INSERT_ORDER_LINES, new),
            (_DELETE_ALLOCATIONS, left),
            (_INSERT_ALLOCATIONS, made),
        ):
            if rows:
                yield write, rows


def _allocation(  # noqa: PLR0917 - a row of the table, in its order
    sku: str, version: int, orderid: str, lineid: str, qty: int, batchref: str
) -> Allocation:
    return Allocation(OrderLine(orderid=orderid, sku=sku, qty=qty, lineid=lineid), batchref, version)


_to_lock = rows_of(products.c.sku, batch_references.c.reference)
_of_references = batch_references.c.reference == _to_lock.c.reference
_LOCK = compiled(
    select(products.c.sku)
    .where(
        products.c.sku.in_(
            union(
                select(_to_lock.c.sku),
                select(batch_references.c.sku).join_from(_to_lock, batch_references, _of_references),
            )
        )
    )
    .order_by(products.c.sku)
    .with_for_update()
)

_skus = rows_of(products.c.sku)
_LOCK_FREE = compiled(
    select(products.c.sku)
    .select_from(_skus.join(products, products.c.sku == _skus.c.sku))
    .with_for_update(of=products, skip_locked=True, key_share=True)
)
_open_batches = (
    select(*_BATCH)
    .where(batches.c.sku == _skus.c.sku, batches.c.is_open)
    .order_by(batches.c.eta.nulls_first(), batches.c.added)  # Batch.preference
)
_at_hand = _open_batches.limit(literal_column(str(AT_HAND))).lateral("at_hand")
_open_batch = [_skus.c.sku if column is _at_hand.c.sku else column for column in _at_hand.c]  # a product may have none
_PRODUCTS = compiled(
    select(products.c.version_number, *_open_batch).select_from(
        _skus.outerjoin(products, products.c.sku == _skus.c.sku).outerjoin(_at_hand, true())
    )
)
_later = _open_batches.offset(literal_column(str(AT_HAND))).lateral("later")
_LATER_BATCHES = compiled(select(*_later.c).select_from(_skus.join(_later, true())))

_references = rows_of(batch_references.c.reference)
_BATCHES = compiled(
    select(*_BATCH)
    .select_from(_references)
    .join(batch_references, batch_references.c.reference == _references.c.reference)
    .join(batches, and_(batches.c.sku == batch_references.c.sku, batches.c.reference == batch_references.c.reference))
)

_lines = rows_of(order_lines.c.orderid, order_lines.c.lineid)
_ALLOCATIONS = compiled(
    select(allocations)
    .select_from(_lines)
    .join(order_lines, and_(order_lines.c.orderid == _lines.c.orderid, order_lines.c.lineid == _lines.c.lineid))
    .join(allocations, and_(allocations.c.sku == order_lines.c.sku, allocations.c.version == order_lines.c.version))
)

_beyond = rows_of(allocations.c.sku, allocations.c.batchref, allocations.c.version)
_older = (
    select(allocations)
    .where(
        allocations.c.sku == _beyond.c.sku,
        allocations.c.batchref == _beyond.c.batchref,
        allocations.c.version < _beyond.c.version,
    )
    .order_by(allocations.c.version.desc())
    .limit(literal_column("500"))
    .lateral("older")
)
_OLDER_ALLOCATIONS = compiled(select(*_older.c).select_from(_beyond.join(_older, true())))
_NEWEST = 2**63 - 1

_versions = rows_of(products.c.sku, products.c.version_number)
_INSERT_PRODUCTS = insert_rows(products, "sku", "version_number")
_UPDATE_PRODUCTS = write_rows(
    update(products).values(version_number=_versions.c.version_number).where(products.c.sku == _versions.c.sku)
)

_INSERT_BATCH_REFERENCES = insert_rows(batch_references, "reference", "sku")
_INSERT_BATCHES = insert_rows(
    batches, "sku", "reference", "eta", "initial_quantity", "purchased_quantity", "allocated_quantity", "added"
)
_differences = rows_of(batches.c.sku, batches.c.reference, *(batches.c[name] for name in _COUNTERS))
_UPDATE_BATCHES = write_rows(
    update(batches)
    .values({name: batches.c[name] + _differences.c[name] for name in _COUNTERS})
    .where(and_(batches.c.sku == _differences.c.sku, batches.c.reference == _differences.c.reference))
)

_removed = rows_of(order_lines.c.orderid, order_lines.c.lineid)
_DELETE_ORDER_LINES = write_rows(
    delete(order_lines).where(
        and_(order_lines.c.orderid == _removed.c.orderid, order_lines.c.lineid == _removed.c.lineid)
    )
)
_left = rows_of(allocations.c.sku, allocations.c.version)
_DELETE_ALLOCATIONS = write_rows(
    delete(allocations).where(and_(allocations.c.sku == _left.c.sku, allocations.c.version == _left.c.version))
)
_moved = rows_of(order_lines.c.orderid, order_lines.c.lineid, order_lines.c.sku, order_lines.c.version)
_is_moved = and_(order_lines.c.orderid == _moved.c.orderid, order_lines.c.lineid == _moved.c.lineid)
_UPDATE_ORDER_LINES = write_rows(
    update(order_lines).values(sku=_moved.c.sku, version=_moved.c.version).where(_is_moved)
)
_INSERT_ORDER_LINES = insert_rows(order_lines, "orderid", "lineid", "sku", "version")
_INSERT_ALLOCATIONS = insert_rows(allocations, "sku", "version", "orderid", "lineid", "qty", "batchref")
