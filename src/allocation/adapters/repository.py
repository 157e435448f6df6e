"""Products from rows, loaded in constant time: the version and the open batches at once, the rest on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select

from allocation.adapters.changes import Changes
from allocation.adapters.tables import allocations, batch_references, batches, order_lines, products
from allocation.domain.model import Batch, LineKey, OrderLine, Product, Promise, UnknownBatch
from messaging.envelope import NewEvent
from messaging.sql.statements import Statement

_CHUNK = 500
_BATCH = [column for column in batches.c if column is not batches.c.is_open]


class SqlAlchemyProducts:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes = Changes()
        self._archive = SqlAlchemyArchive(connection, self._changes)
        self._loaded: dict[str, Product] = {}
        self._collected: dict[str, int] = {}

    def get(self, sku: str) -> Product:
        if sku not in self._loaded:
            self._loaded[sku] = self._load(sku)
        return self._loaded[sku]

    def get_by_batchref(self, batchref: str) -> Product:
        batch = self._archive.batch(batchref)
        if batch is None:
            raise UnknownBatch(batchref)
        return self.get(batch.sku)

    def lock(self, skus: Sequence[str], batchrefs: Sequence[str]) -> None:
        """Let others wait who would write these products; always in one order, so that two who lock don't get stuck."""
        of_batches = select(batch_references.c.sku).where(batch_references.c.reference.in_(batchrefs))
        these = or_(products.c.sku.in_(skus), products.c.sku.in_(of_batches))
        self._connection.execute(select(products.c.sku).where(these).order_by(products.c.sku).with_for_update())

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        for sku, product in self._loaded.items():
            collected = self._collected.get(sku, 0)
            version_when_loaded = product.version_number - len(product.events)
            for number, event in enumerate(product.events[collected:], start=collected + 1):
                version = version_when_loaded + number
                self._changes.add(sku, version, event)
                yield NewEvent(sku, version, event)
            self._collected[sku] = len(product.events)

    def statements(self) -> Iterable[Statement]:
        return self._changes.statements()

    def _load(self, sku: str) -> Product:
        open_batches = and_(batches.c.sku == products.c.sku, batches.c.is_open)
        rows = self._connection.execute(
            select(products.c.version_number, *_BATCH)
            .select_from(products.outerjoin(batches, open_batches))
            .where(products.c.sku == sku)
        ).all()
        version_number = rows[0].version_number if rows else 0
        return Product(sku, [_batch(row) for row in rows if row.reference], version_number, self._archive)


class SqlAlchemyArchive:
    """What products look up, as this unit of work left it: stored rows under what is not written yet."""

    def __init__(self, connection: Connection, changes: Changes) -> None:
        self._connection = connection
        self._changes = changes

    def promise(self, key: LineKey) -> Promise | None:
        if change := self._changes.lines.get(key):
            return change.promise
        orderid, lineid = key
        row = self._connection.execute(
            select(allocations)
            .join(order_lines, and_(_same_product, allocations.c.version == order_lines.c.version))
            .where(order_lines.c.orderid == orderid, order_lines.c.lineid == lineid)
        ).one_or_none()
        return _promise(row) if row else None

    def newest_promises(self, batch: Batch) -> Iterator[Promise]:
        of_batch = and_(allocations.c.sku == batch.sku, allocations.c.batchref == batch.reference)
        newest_first = select(allocations).order_by(allocations.c.version.desc()).limit(_CHUNK)
        rows = self._connection.execute(newest_first.where(of_batch)).all()
        while rows:
            yield from map(_promise, rows)
            older = allocations.c.version < rows[-1].version
            rows = self._connection.execute(newest_first.where(of_batch, older)).all()

    def batch(self, reference: str) -> Batch | None:
        if reference in self._changes.created:
            event, version = self._changes.created[reference]
            return Batch.created(event, added=version)
        row = self._connection.execute(
            select(*_BATCH)
            .join(batch_references, and_(_same_sku, batches.c.reference == batch_references.c.reference))
            .where(batch_references.c.reference == reference)
        ).one_or_none()
        return _batch(row) if row else None


_same_product = allocations.c.sku == order_lines.c.sku
_same_sku = batches.c.sku == batch_references.c.sku


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        reference=row.reference,
        sku=row.sku,
        eta=row.eta,
        initial_quantity=row.initial_quantity,
        purchased_quantity=row.purchased_quantity,
        allocated_quantity=row.allocated_quantity,
        added=row.added,
    )


def _promise(row: Row[Any]) -> Promise:
    return Promise(OrderLine(row.orderid, row.sku, row.qty, row.lineid), row.batchref)
