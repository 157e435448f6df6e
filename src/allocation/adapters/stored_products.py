"""What of products, batches, lines, documents and holds is stored: read once, when it is asked for."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import starmap
from typing import Any, cast

from allocation.adapters import product_queries as queries
from allocation.adapters.queue_reader import QueueReader
from allocation.adapters.wire_names import CODEC
from allocation.domain.batches import Batch
from allocation.domain.documents import DocumentedEvent, DocumentKey
from allocation.domain.events import Event
from allocation.domain.holds import Hold, HoldKey
from allocation.domain.lines import Allocation, LineKey, PlacedLine
from allocation.service_layer.ports import Lookups
from messaging.sql.statements import Ask, Query, Row, Rows


@dataclass(slots=True)
class StoredProduct:
    """The row of a product, of which none is there at version 0, and what is read with it."""

    version: int
    waiting: int
    holds: int
    due: list[Hold]
    """Holds that have run out."""
    batches: list[tuple[Any, ...]] = field(default_factory=list)
    """The open ones that are preferred, the first first; when there may be more, as many as are `AT_HAND`."""


class StoredProducts:
    """As it was read in one transaction, whatever has become of it since. What is None in `batches`, `lines` or `holds`
    is not there."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.products: dict[str, StoredProduct] = {}
        self.batches: dict[str, tuple[Any, ...] | None] = {}
        self.lines: dict[LineKey, PlacedLine | None] = {}
        self.holds: dict[HoldKey, Hold | None] = {}
        self.locked_elsewhere: set[str] = set()
        """SKUs of which another transaction has locked the row."""
        self._now: datetime | None = None
        self._others: dict[LineKey, list[int]] = {}
        self._orders: dict[str, bool] = {}
        self._whole_orders: set[str] = set()
        self._documents: dict[DocumentKey, list[DocumentedEvent]] = {}
        self._queues: dict[tuple[str, date | None, str], QueueReader] = {}

    def prefetch(self, lookups: Lookups) -> None:
        """Read of these what was not read yet."""
        self.take(self._ask(*self.queries(lookups)))

    def queries(self, lookups: Lookups) -> Iterator[Query]:
        """For what of these was not read yet; their answers are to be taken. What they do not find is not there."""
        if skus := [sku for sku in dict.fromkeys(lookups.skus) if sku not in self.products]:
            yield Query(queries.PRODUCTS, [{"sku": sku} for sku in skus])
        if references := [one for one in dict.fromkeys(lookups.batchrefs) if one not in self.batches]:
            self.batches |= dict.fromkeys(references)
            yield Query(queries.BATCHES, [{"reference": reference} for reference in references])
        if keys := [key for key in dict.fromkeys(lookups.lines) if key not in self.lines]:
            self.lines |= dict.fromkeys(keys)
            yield Query(queries.LINES, [{"orderid": orderid, "lineid": lineid} for orderid, lineid in keys])
        if wanted := [orderid for orderid in dict.fromkeys(lookups.orders) if orderid not in self._whole_orders]:
            self._whole_orders.update(wanted)
            yield Query(queries.LINES_OF_ORDERS, [{"orderid": orderid} for orderid in wanted])
        if numbers := [key for key in dict.fromkeys(lookups.documents) if key not in self._documents]:
            self._documents |= {key: [] for key in numbers}
            yield Query(queries.DOCUMENTS, [dict(zip(queries.DOCUMENT_KEY, key, strict=True)) for key in numbers])
        if held := [key for key in dict.fromkeys(lookups.holds) if key not in self.holds]:
            yield Query(queries.HOLDS, [{"sku": sku, "hold_id": hold_id} for sku, hold_id in held])

    def take(self, answers: Mapping[str, Rows]) -> None:
        self._take_products(answers.get(queries.PRODUCTS, ()))
        self.batches |= {row[0]: row for row in answers.get(queries.BATCHES, ())}
        self._take_lines(answers.get(queries.LINES, ()))
        self._take_lines(answers.get(queries.LINES_OF_ORDERS, ()))
        for about, part, kind, number, version, name, data in answers.get(queries.DOCUMENTS, ()):
            entry = DocumentedEvent(version, cast(Event, CODEC.decode(name, data)))
            self._documents[about, part, kind, number].append(entry)
        for sku, hold_id, now, *hold in answers.get(queries.HOLDS, ()):
            self._now = self._now or now
            known = queries.hold_of(sku, hold_id, *hold) if hold[0] is not None else None
            self.holds.setdefault((sku, hold_id), known)
        if queries.LOCK_FREE in answers:
            ours = {sku for (sku,) in answers[queries.LOCK_FREE]}
            self.locked_elsewhere = {sku for sku, one in self.products.items() if one.version and sku not in ours}

    def _take_products(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """One for each open batch of a product, or one without a batch."""
        for version, waiting, held, due, now, *batch in rows:
            reference, sku, *_ = batch
            self._now = self._now or now
            if sku not in self.products:
                run_out = queries.holds_from(sku, due) if due else []
                self.products[sku] = StoredProduct(version or 0, waiting or 0, held or 0, run_out)
                self.holds |= {hold.key: hold for hold in run_out}
            if reference is not None:
                self.batches[reference] = row = tuple(batch)
                self.products[sku].batches.append(row)

    def _take_lines(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for orderid, lineid, cancelled, sku, version, others, returned, since, terms, waiting, *allocated in rows:
            self._orders[orderid] = bool(cancelled)
            if sku is None:
                continue
            key = orderid, lineid
            has = () if version is None else (Allocation(sku, version, orderid, lineid, *allocated),)
            waits = queries.terms_from(terms), since or 0, waiting or 0
            self.lines[key] = PlacedLine(orderid, lineid, sku, has, returned, *waits)
            if others:
                self._others[key] = others

    def _take_others(self) -> None:
        """Of lines that have something of several batches, what was not read with the first."""
        if not self._others:
            return
        wanted = [(self.lines[key], version) for key, versions in self._others.items() for version in versions]
        places: list[Row] = [{"sku": line.sku, "version": version} for line, version in wanted if line]
        rows = self._ask(Query(queries.ALLOCATIONS, places))[queries.ALLOCATIONS]
        found = {(allocation.sku, allocation.version): allocation for allocation in starmap(Allocation, rows)}
        for key, versions in self._others.items():
            line = self.lines[key]
            assert line, "others are of lines that are there"
            others = (found[line.sku, version] for version in versions)
            self.lines[key] = replace(line, allocations=(*line.allocations, *others))
        self._others.clear()

    def now(self) -> datetime:
        """By the clock of the database; one moment for all that is decided."""
        if self._now is None:
            ((self._now,),) = self._ask(Query(queries.NOW, [{"sku": ""}]))[queries.NOW]
        return self._now.astimezone(UTC)

    def product(self, sku: str) -> StoredProduct:
        if sku not in self.products:
            those_of_lines = (line.sku for line in self.lines.values() if line)
            self.prefetch(Lookups(skus=[sku, *those_of_lines]))
        return self.products[sku]

    def quantities(self, key: LineKey) -> Mapping[str, int]:
        """What a line has of each batch, if it was read."""
        line = self.lines.get(key)
        return line.batch_quantities if line else {}

    def start_queues_again(self) -> None:
        """What was served was taken back."""
        self._queues.clear()

    def batch(self, reference: str) -> Batch | None:
        if reference not in self.batches:
            self.prefetch(Lookups(batchrefs=[reference]))
        row = self.batches[reference]
        return Batch(*row) if row else None

    def read_batches(self, references: Iterable[str]) -> None:
        self.prefetch(Lookups(batchrefs=list(references)))

    def later_batches(self, sku: str) -> list[Batch]:
        rows = self._ask(Query(queries.LATER_BATCHES, [{"sku": sku}]))[queries.LATER_BATCHES]
        self.batches |= {row[0]: row for row in rows}
        return [Batch(*row) for row in rows]

    def read_line(self, key: LineKey) -> PlacedLine | None:
        if key not in self.lines:
            self.prefetch(Lookups(lines=[key]))
        if key in self._others:
            self._take_others()
        return self.lines[key]

    def read_lines_of(self, orderid: str) -> list[PlacedLine]:
        self.prefetch(Lookups(orders=[orderid]))
        self._take_others()
        return [line for key, line in self.lines.items() if line and key[0] == orderid]

    def read_lines(self, keys: Sequence[LineKey]) -> None:
        self.prefetch(Lookups(lines=keys))

    def is_cancelled(self, orderid: str) -> bool:
        if orderid not in self._orders:
            self.read_lines_of(orderid)
        return self._orders[orderid]

    def document(self, key: DocumentKey) -> list[DocumentedEvent]:
        if key not in self._documents:
            self.prefetch(Lookups(documents=[key]))
        return self._documents[key]

    def first_to_break(self, batch: Batch) -> Iterator[Allocation]:
        place: Row = {"priority": -1, "newest": 0}
        while True:
            behind = {"sku": batch.sku, "batchref": batch.reference} | place
            rows = self._ask(Query(queries.NEXT_TO_BREAK, [behind]))[queries.NEXT_TO_BREAK]
            if not rows:
                return
            for row in rows:
                allocation = Allocation(*row)
                place = {"priority": allocation.priority, "newest": -allocation.version}
                yield allocation

    def read_hold(self, key: HoldKey) -> Hold | None:
        if key not in self.holds:
            self.prefetch(Lookups(holds=[key]))
        return self.holds[key]

    def holds_to_break(self, batch: Batch) -> Iterator[Hold]:
        before = 2**62
        while True:
            behind: Row = {"sku": batch.sku, "batchref": batch.reference, "version": before}
            rows = self._ask(Query(queries.NEXT_HOLDS_TO_BREAK, [behind]))[queries.NEXT_HOLDS_TO_BREAK]
            if not rows:
                return
            for hold in starmap(queries.hold_of, rows):
                before = hold.version
                yield self.holds.setdefault(hold.key, hold) or hold

    def promised_later(self, batch: Batch) -> Iterator[Allocation]:
        about: Row = {"sku": batch.sku, "eta": batch.eta, "expires": batch.expires, "added": batch.added}
        place: Row = {"keeps": -100, "version": 0}
        while True:
            behind = about | {"room": batch.available_quantity} | place
            rows = self._ask(Query(queries.PROMISED_LATER, [behind]))[queries.PROMISED_LATER]
            if not rows:
                return
            found = list(starmap(Allocation, rows))
            self.read_lines([one.line_key for one in found])
            self.read_batches({one.batchref for one in found})
            for allocation in found:
                place = {"keeps": -allocation.priority, "version": allocation.version}
                yield allocation

    def backorders(self, batch: Batch, day: date | None, changed: Container[LineKey]) -> Iterator[PlacedLine]:
        about = batch.sku, day, batch.location
        if about not in self._queues:
            self._queues[about] = QueueReader.of(self._ask, batch, day)
        for page in self._queues[about].pages(lambda: batch.available_quantity, changed):
            self.read_lines(page)
            for key in page:
                line = self.read_line(key)
                assert line, "who waits is known"
                yield line
