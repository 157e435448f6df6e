"""Products from rows and back: loaded in constant time, and what differs at the end is written.

The version and the best open batches of a product are read at once, the rest when a rule needs it. What was read is
kept as it was, so that a row is written only where a batch or a line is not what was read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, tzinfo
from itertools import starmap
from typing import Any, cast

from allocation.adapters import product_queries as queries
from allocation.adapters import product_writes
from allocation.adapters.queue_reader import QueueReader
from allocation.adapters.wire_names import CODEC
from allocation.domain import holding
from allocation.domain.batches import Batch, Batches
from allocation.domain.documents import DocumentedEvent, DocumentKey, Documents
from allocation.domain.errors import UnknownBatch, UnknownLine
from allocation.domain.events import Event
from allocation.domain.holds import Hold, HoldKey, Holds
from allocation.domain.lines import Allocation, LineKey, Lines, PlacedLine
from allocation.domain.product import Product
from allocation.service_layer.ports import Lookups
from messaging.envelope import NewEvent
from messaging.errors import IsLong
from messaging.sql.statements import Ask, Query, Row, Rows, Statement


class SqlAlchemyProducts:
    """The products of one unit of work. `ask` reads in its transaction; a day begins as it does in `time_zone`. A rule
    that leads to more than `most_events` at once raises IsLong."""

    def __init__(self, ask: Ask, time_zone: tzinfo, most_events: int | None = None) -> None:
        self._ask = ask
        self._time_zone = time_zone
        self._most_events = most_events
        # As it was read:
        self._now: datetime | None = None
        self._versions: dict[str, int] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._due: dict[str, list[Hold]] = {}
        self._holds_read: dict[HoldKey, Hold | None] = {}
        self._open: defaultdict[str, list[str]] = defaultdict(list)
        self._rows: dict[str, tuple[Any, ...] | None] = {}
        self._lines_read: dict[LineKey, PlacedLine | None] = {}
        self._others: dict[LineKey, list[int]] = {}
        self._orders: dict[str, bool] = {}
        self._whole_orders: set[str] = set()
        self._documents_read: dict[DocumentKey, list[DocumentedEvent]] = {}
        self.locked_elsewhere: set[str] = set()
        # As it is now:
        self._new: list[NewEvent[Event]] = []
        self._collected = 0
        self._start_from_what_was_read()

    @property
    def skus(self) -> set[str]:
        """Of the products that were loaded."""
        return set(self._loaded)

    def get(self, sku: str) -> Product:
        product = self._loaded.get(sku)
        if product is None:
            product = self._load(sku)
            if sku in self._due:
                self._end_due(product)
        return product

    def _load(self, sku: str) -> Product:
        """As it was read."""
        if sku not in self._loaded:
            if sku not in self._versions:
                those_of_lines = (line.sku for line in self._lines_read.values() if line)
                self.take(self._ask(*self.queries(Lookups(skus=[sku, *those_of_lines]))))
            at_hand = [Batch(*self._rows[reference]) for reference in self._open[sku]]  # type: ignore[misc]  # these are there
            horizon = at_hand[-1].preference if len(at_hand) == queries.AT_HAND else None
            self._batches.load(sku, at_hand, horizon)
            together = self._batches, self.lines, self._documents
            waiting, held = self._counts[sku]
            self._loaded[sku] = Product(
                sku,
                self._versions[sku],
                *together,
                holds=self._holds,
                waiting=waiting,
                hold_count=held,
                now=self.now,
                today=self.today,
                on_event=self._record,
            )
        return self._loaded[sku]

    def _end_due(self, product: Product) -> None:
        due = [hold for hold in self._due[product.sku] if self._holds.get(hold.key) == hold]
        if self._most_events and len(due) > self._most_events:
            raise IsLong(f"{len(due)} holds have run out at once")
        self._batches.prefetch(hold.batchref for hold in due)
        holding.end_due(product, due)

    def get_by_batchref(self, batchref: str) -> Product:
        batch = self._batches.get(batchref)
        if batch is None:
            raise UnknownBatch(batchref)
        return self.get(batch.sku)

    def line(self, orderid: str, lineid: str) -> PlacedLine:
        line = self.lines.get((orderid, lineid))
        if line is None:
            raise UnknownLine(orderid, lineid)
        self.get(line.sku)  # by now it may have been served
        return self.lines[line.key]

    def lines_of(self, orderid: str) -> list[PlacedLine]:
        for sku in sorted({line.sku for line in self.lines.of_order(orderid)}):
            self.get(sku)
        return self.lines.of_order(orderid)

    def stored_quantities(self, key: LineKey) -> Mapping[str, int]:
        """What a line had of each batch when it was read."""
        line = self._lines_read.get(key)
        return line.batch_quantities if line else {}

    def now(self) -> datetime:
        """By the clock of the database; one moment for all that is decided."""
        if self._now is None:
            ((self._now,),) = self._ask(Query(queries.NOW, [{"sku": ""}]))[queries.NOW]
        return self._now.astimezone(UTC)

    def today(self) -> date:
        return self.now().astimezone(self._time_zone).date()

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
            product = self._load(new.stream)
            product.apply(new.event)
            product.freed_batches.clear()  # those who waited were served

    def _start_from_what_was_read(self) -> None:
        self._batches = Batches(self)
        self.lines = Lines(self)
        self._documents = Documents(self)
        self._holds = Holds(self)
        self._loaded: dict[str, Product] = {}
        self._queues: dict[tuple[str, date | None, str], QueueReader] = {}

    def _record(self, product: Product, version: int, event: Event) -> None:
        self._new.append(NewEvent(product.sku, version, event))
        if self._most_events and len(self._new) - self._collected > self._most_events:
            raise IsLong(f"more than {self._most_events} events at once")

    # --- reading -------------------------------------------------------------------

    def queries(self, lookups: Lookups) -> Iterator[Query]:
        """What must be read of these before a rule can be applied, and was not read yet."""
        if skus := [sku for sku in dict.fromkeys(lookups.skus) if sku not in self._versions]:
            yield Query(queries.PRODUCTS, [{"sku": sku} for sku in skus])
        if references := [one for one in dict.fromkeys(lookups.batchrefs) if one not in self._rows]:
            self._rows |= dict.fromkeys(references)
            yield Query(queries.BATCHES, [{"reference": reference} for reference in references])
        if keys := [key for key in dict.fromkeys(lookups.lines) if key not in self._lines_read]:
            self._lines_read |= dict.fromkeys(keys)
            yield Query(queries.LINES, [{"orderid": orderid, "lineid": lineid} for orderid, lineid in keys])
        if wanted := [orderid for orderid in dict.fromkeys(lookups.orders) if orderid not in self._whole_orders]:
            self._whole_orders.update(wanted)
            yield Query(queries.LINES_OF_ORDERS, [{"orderid": orderid} for orderid in wanted])
        if numbers := [key for key in dict.fromkeys(lookups.documents) if key not in self._documents_read]:
            self._documents_read |= {key: [] for key in numbers}
            yield Query(queries.DOCUMENTS, [dict(zip(queries.DOCUMENT_KEY, key, strict=True)) for key in numbers])
        if held := [key for key in dict.fromkeys(lookups.holds) if key not in self._holds_read]:
            yield Query(queries.HOLDS, [{"sku": sku, "hold_id": hold_id} for sku, hold_id in held])

    def take(self, answers: Mapping[str, Rows]) -> None:
        """What was read."""
        for version, waiting, held, due, now, *batch in answers.get(queries.PRODUCTS, ()):
            reference, sku, *_ = batch
            self._versions[sku] = version or 0
            self._counts[sku] = waiting or 0, held or 0
            if due and sku not in self._due:
                self._due[sku] = queries.holds_from(sku, due)
                self._holds_read |= {hold.key: hold for hold in self._due[sku]}
            self._now = self._now or now
            if reference is not None:
                self._rows[reference] = tuple(batch)
                self._open[sku].append(reference)
        self._rows |= {row[0]: row for row in answers.get(queries.BATCHES, ())}
        self._take_lines(answers.get(queries.LINES, ()))
        self._take_lines(answers.get(queries.LINES_OF_ORDERS, ()))
        for about, part, kind, number, version, name, data in answers.get(queries.DOCUMENTS, ()):
            entry = DocumentedEvent(version, cast(Event, CODEC.decode(name, data)))
            self._documents_read[about, part, kind, number].append(entry)
        for sku, hold_id, now, *hold in answers.get(queries.HOLDS, ()):
            self._now = self._now or now
            known = queries.hold_of(sku, hold_id, *hold) if hold[0] is not None else None
            self._holds_read.setdefault((sku, hold_id), known)
        if queries.LOCK_FREE in answers:
            ours = {sku for (sku,) in answers[queries.LOCK_FREE]}
            self.locked_elsewhere = {sku for sku, version in self._versions.items() if version and sku not in ours}

    def _take_lines(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for orderid, lineid, cancelled, sku, version, others, returned, since, terms, waiting, *allocated in rows:
            self._orders[orderid] = bool(cancelled)
            if sku is None:
                continue
            key = orderid, lineid
            has = () if version is None else (Allocation(sku, version, orderid, lineid, *allocated),)
            waits = queries.terms_from(terms), since or 0, waiting or 0
            self._lines_read[key] = PlacedLine(orderid, lineid, sku, has, returned, *waits)
            if others:
                self._others[key] = others

    def _take_others(self) -> None:
        """Of lines that have something of several batches, what was not read with the first."""
        if not self._others:
            return
        wanted = [(self._lines_read[key], version) for key, versions in self._others.items() for version in versions]
        places: list[Row] = [{"sku": line.sku, "version": version} for line, version in wanted if line]
        rows = self._ask(Query(queries.ALLOCATIONS, places))[queries.ALLOCATIONS]
        found = {(allocation.sku, allocation.version): allocation for allocation in starmap(Allocation, rows)}
        for key, versions in self._others.items():
            line = self._lines_read[key]
            assert line, "others are of lines that are there"
            others = (found[line.sku, version] for version in versions)
            self._lines_read[key] = replace(line, allocations=(*line.allocations, *others))
        self._others.clear()

    def batch(self, reference: str) -> Batch | None:
        if reference not in self._rows:
            self.take(self._ask(*self.queries(Lookups(batchrefs=[reference]))))
        row = self._rows[reference]
        return Batch(*row) if row else None

    def read_batches(self, references: Iterable[str]) -> None:
        self.take(self._ask(*self.queries(Lookups(batchrefs=list(references)))))

    def later_batches(self, sku: str) -> list[Batch]:
        rows = self._ask(Query(queries.LATER_BATCHES, [{"sku": sku}]))[queries.LATER_BATCHES]
        self._rows |= {row[0]: row for row in rows}
        return [Batch(*row) for row in rows]

    def read_line(self, key: LineKey) -> PlacedLine | None:
        if key not in self._lines_read:
            self.take(self._ask(*self.queries(Lookups(lines=[key]))))
        if key in self._others:
            self._take_others()
        return self._lines_read[key]

    def read_lines_of(self, orderid: str) -> list[PlacedLine]:
        self.take(self._ask(*self.queries(Lookups(orders=[orderid]))))
        self._take_others()
        return [line for key, line in self._lines_read.items() if line and key[0] == orderid]

    def read_lines(self, keys: Sequence[LineKey]) -> None:
        self.take(self._ask(*self.queries(Lookups(lines=keys))))

    def is_cancelled(self, orderid: str) -> bool:
        if orderid not in self._orders:
            self.read_lines_of(orderid)
        return self._orders[orderid]

    def document(self, key: DocumentKey) -> list[DocumentedEvent]:
        if key not in self._documents_read:
            self.take(self._ask(*self.queries(Lookups(documents=[key]))))
        return self._documents_read[key]

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
        if key not in self._holds_read:
            self.take(self._ask(*self.queries(Lookups(holds=[key]))))
        return self._holds_read[key]

    def holds_to_break(self, batch: Batch) -> Iterator[Hold]:
        before = 2**62
        while True:
            behind: Row = {"sku": batch.sku, "batchref": batch.reference, "version": before}
            rows = self._ask(Query(queries.NEXT_HOLDS_TO_BREAK, [behind]))[queries.NEXT_HOLDS_TO_BREAK]
            if not rows:
                return
            for hold in starmap(queries.hold_of, rows):
                before = hold.version
                yield self._holds_read.setdefault(hold.key, hold) or hold

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

    def backorders(self, batch: Batch, day: date | None) -> Iterator[PlacedLine]:
        about = batch.sku, day, batch.location
        if about not in self._queues:
            self._queues[about] = QueueReader.of(self._ask, batch, day)
        for page in self._queues[about].pages(lambda: batch.available_quantity, self.lines.changed):
            self.read_lines(page)
            for key in page:
                line = self.read_line(key)
                assert line, "who waits is known"
                yield line

    def locks(self, lookups: Lookups, *, wait: bool) -> Query:
        """Let others wait who would write these products; always in one order, so that two who lock don't get stuck.
        Without `wait`, those that nobody has locked."""
        if not wait:
            return Query(queries.LOCK_FREE, [{"sku": sku} for sku in sorted(set(lookups.skus))])
        rows: list[Row] = [{"sku": sku} for sku in lookups.skus]
        rows += [{"reference": reference} for reference in lookups.batchrefs]
        rows += [{"orderid": orderid, "lineid": lineid} for orderid, lineid in lookups.lines]
        rows += [{"orderid": orderid} for orderid in lookups.orders]
        return Query(queries.LOCK, rows)

    # --- writing -------------------------------------------------------------------

    def statements(self) -> Iterator[Statement]:
        """What differs from what was read."""
        skus = {new.stream for new in self._new}
        changed = [self._loaded[sku] for sku in sorted(skus)]
        now = (batch for product in changed for batch in self._batches.of(product.sku))
        yield from product_writes.of_products(changed, self._versions)
        yield from product_writes.of_batches(sorted(now, key=lambda batch: batch.reference), self._rows)
        lines = sorted((key, line) for key, line in self.lines.changed.items() if line.sku in skus)
        before_and_now = [(self._lines_read.get(key), line) for key, line in lines]
        yield from product_writes.of_lines(before_and_now, self.lines.cancelled)
        holds = {key: hold for key, hold in self._holds.changed.items() if key[0] in skus}
        yield from product_writes.of_holds(holds, self._holds_read)
        yield from product_writes.of_documents(self._documents.new)
