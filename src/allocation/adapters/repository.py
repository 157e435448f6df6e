"""Products from rows, loaded in constant time: the version and the best open batches at once, the rest on demand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import and_, literal_column, select, true, union

from allocation.adapters.changes import Changes
from allocation.adapters.tables import allocations, batch_references, batches, order_lines, products
from allocation.domain.model import Batch, LineKey, OrderLine, Preference, Product, Promise, UnknownBatch
from messaging.envelope import NewEvent
from messaging.sql.statements import Ask, Question, Statement, compiled, rows_of

AT_HAND = 20
"""Of so many open batches a product is loaded with, the preferred ones: mostly the first has room."""

_BATCH = [batches.c[field.name] for field in fields(Batch)]  # by position: a thousand by name take three times as long


class SqlAlchemyProducts:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._changes = Changes()
        self._archive = SqlAlchemyArchive(ask, self._changes)
        self._found: dict[str, tuple[int, list[Batch], Preference | None]] = {}
        self._loaded: dict[str, Product] = {}
        self._visited: dict[str, Product] = {}  # since events were last collected
        self._collected: dict[str, int] = {}

    def get(self, sku: str) -> Product:
        if sku not in self._loaded:
            if sku not in self._found:
                self._ask(self.questions(skus=[sku]))
            version_number, open_batches, horizon = self._found[sku]
            self._loaded[sku] = Product(sku, open_batches, version_number, self._archive, horizon)
        product = self._visited[sku] = self._loaded[sku]
        return product

    def get_by_batchref(self, batchref: str) -> Product:
        batch = self._archive.batch(batchref)
        if batch is None:
            raise UnknownBatch(batchref)
        return self.get(batch.sku)

    def questions(
        self, skus: Sequence[str] = (), batchrefs: Sequence[str] = (), lines: Sequence[LineKey] = ()
    ) -> Iterator[Question]:
        """What must be known of these before a rule can be asked."""
        if wanted := [{"sku": sku} for sku in dict.fromkeys(skus)]:
            yield Question(_PRODUCTS, wanted, self._take)
        yield from self._archive.questions(batchrefs, lines)

    def lock(self, skus: Sequence[str], batchrefs: Sequence[str]) -> Iterator[Question]:
        """Let others wait who would write these products; always in one order, so that two who lock don't get stuck."""
        wanted = [{"sku": sku} for sku in skus] + [{"reference": reference} for reference in batchrefs]
        yield Question(_LOCK, wanted, lambda _: None)

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        visited, self._visited = self._visited, {}
        for sku, product in visited.items():
            collected = self._collected.get(sku, 0)
            version_when_loaded = product.version_number - len(product.events)
            for number, event in enumerate(product.events[collected:], start=collected + 1):
                version = version_when_loaded + number
                self._changes.add(sku, version, event)
                yield NewEvent(sku, version, event)
            self._collected[sku] = len(product.events)

    def statements(self) -> Iterable[Statement]:
        return self._changes.statements()

    def _take(self, rows: list[tuple[Any, ...]]) -> None:
        versions: dict[str, int] = {}
        batches_of: defaultdict[str, list[Batch]] = defaultdict(list)
        for version, reference, sku, eta, initial, purchased, allocated, added in rows:
            versions[sku] = version or 0
            if reference is not None:
                batches_of[sku].append(Batch(reference, sku, eta, initial, purchased, allocated, added))
        for sku, version_number in versions.items():
            open_batches = batches_of[sku]
            horizon = max(batch.preference for batch in open_batches) if len(open_batches) == AT_HAND else None
            self._found[sku] = version_number, open_batches, horizon


class SqlAlchemyArchive:
    """What products look up, as this unit of work left it: stored rows under what is not written yet."""

    def __init__(self, ask: Ask, changes: Changes) -> None:
        self._ask = ask
        self._changes = changes
        self._promises: dict[LineKey, Promise | None] = {}
        self._batches: dict[str, Batch | None] = {}

    def open_batches_behind(self, horizon: Preference, sku: str) -> Iterable[Batch]:  # noqa: ARG002 - the place says the same
        found: list[tuple[Any, ...]] = []
        self._ask([Question(_LATER_BATCHES, [{"sku": sku}], found.extend)])
        return [Batch(*row) for row in found]

    def promise(self, key: LineKey) -> Promise | None:
        if change := self._changes.lines.get(key):
            return change.promise
        if key not in self._promises:
            self._ask(self.questions(lines=[key]))
        return self._promises[key]

    def newest_promises(self, batch: Batch) -> Iterator[Promise]:
        rows: list[tuple[Any, ...]] = []
        beyond = _NEWEST
        while True:
            after = {"sku": batch.sku, "batchref": batch.reference, "version": beyond}
            self._ask([Question(_OLDER_PROMISES, [after], rows.extend)])
            if not rows:
                return
            for row in rows:
                promise, beyond = _promise(*row)
                yield promise
            rows.clear()

    def batch(self, reference: str) -> Batch | None:
        if reference in self._changes.created:
            event, version = self._changes.created[reference]
            return Batch.created(event, added=version)
        if reference not in self._batches:
            self._ask(self.questions(batchrefs=[reference]))
        return self._batches[reference]

    def questions(self, batchrefs: Sequence[str] = (), lines: Sequence[LineKey] = ()) -> Iterator[Question]:
        if wanted := [{"reference": reference} for reference in batchrefs]:
            self._batches.update(dict.fromkeys(batchrefs))
            yield Question(_BATCHES, wanted, self._take_batches)
        if wanted := [{"orderid": orderid, "lineid": lineid} for orderid, lineid in lines]:
            self._promises.update(dict.fromkeys(lines))
            yield Question(_PROMISES, wanted, self._take_promises)

    def _take_batches(self, rows: list[tuple[Any, ...]]) -> None:
        self._batches.update((batch.reference, batch) for batch in (Batch(*row) for row in rows))

    def _take_promises(self, rows: list[tuple[Any, ...]]) -> None:
        self._promises.update((promise.line.key, promise) for promise, _ in (_promise(*row) for row in rows))


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
_PROMISES = compiled(
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
_OLDER_PROMISES = compiled(select(*_older.c).select_from(_beyond.join(_older, true())))
_NEWEST = 2**63 - 1


def _promise(  # noqa: PLR0917 - a row of the table, in its order
    sku: str, version: int, orderid: str, lineid: str, qty: int, batchref: str
) -> tuple[Promise, int]:
    """The promise, and the version that made it."""
    return Promise(OrderLine(orderid=orderid, sku=sku, qty=qty, lineid=lineid), batchref), version
