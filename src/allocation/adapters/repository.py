"""Products from rows and back: loaded in constant time, and what differs at the end is written.

The version and the best open batches of a product are read at once, the rest when a rule needs it. A row is written
only where a batch or a line is not what was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, tzinfo

from allocation.adapters import product_queries as queries
from allocation.adapters import product_writes
from allocation.adapters.stored_products import StoredProducts
from allocation.domain import holding
from allocation.domain.batches import Batch, Batches
from allocation.domain.documents import Documents
from allocation.domain.errors import UnknownBatch, UnknownLine
from allocation.domain.events import Event
from allocation.domain.holds import Hold, Holds
from allocation.domain.lines import Lines, PlacedLine
from allocation.domain.product import Product
from allocation.service_layer.ports import Lookups
from messaging.envelope import NewEvent
from messaging.errors import IsLong
from messaging.sql.statements import Ask, Query, Row, Statement


class SqlAlchemyProducts:
    """The products of one unit of work. `ask` reads in its transaction; a day begins as it does in `time_zone`. A rule
    that leads to more than `most_events` at once raises IsLong."""

    def __init__(self, ask: Ask, time_zone: tzinfo, most_events: int | None = None) -> None:
        self.stored = StoredProducts(ask)
        self._time_zone = time_zone
        self._most_events = most_events
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
            if due := self.stored.product(sku).due:
                self._end_due(product, due)
        return product

    def _load(self, sku: str) -> Product:
        """As it was read."""
        if sku not in self._loaded:
            stored = self.stored.product(sku)
            at_hand = [Batch(*row) for row in stored.batches]
            horizon = at_hand[-1].preference if len(at_hand) == queries.AT_HAND else None
            self._batches.load(sku, at_hand, horizon)
            together = self._batches, self._lines, self._documents
            self._loaded[sku] = Product(
                sku,
                stored.version,
                *together,
                holds=self._holds,
                waiting=stored.waiting,
                hold_count=stored.holds,
                now=self.stored.now,
                today=self.today,
                on_event=self._record,
            )
        return self._loaded[sku]

    def _end_due(self, product: Product, due: list[Hold]) -> None:
        due = [hold for hold in due if self._holds.get(hold.key) == hold]
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
        line = self._lines.get((orderid, lineid))
        if line is None:
            raise UnknownLine(orderid, lineid)
        self.get(line.sku)  # by now it may have been served
        return self._lines[line.key]

    def lines_of(self, orderid: str) -> list[PlacedLine]:
        for sku in sorted({line.sku for line in self._lines.of_order(orderid)}):
            self.get(sku)
        return self._lines.of_order(orderid)

    def today(self) -> date:
        return self.stored.now().astimezone(self._time_zone).date()

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
        self.stored.start_queues_again()
        self._batches = Batches(self.stored)
        self._lines = Lines(self.stored)
        self._documents = Documents(self.stored)
        self._holds = Holds(self.stored)
        self._loaded: dict[str, Product] = {}

    def _record(self, product: Product, version: int, event: Event) -> None:
        self._new.append(NewEvent(product.sku, version, event))
        if self._most_events and len(self._new) - self._collected > self._most_events:
            raise IsLong(f"more than {self._most_events} events at once")

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

    def statements(self) -> Iterator[Statement]:
        """What differs from what was read."""
        skus = {new.stream for new in self._new}
        changed = [self._loaded[sku] for sku in sorted(skus)]
        now = (batch for product in changed for batch in self._batches.of(product.sku))
        versions = {sku: self.stored.products[sku].version for sku in skus}
        yield from product_writes.of_products(changed, versions)
        yield from product_writes.of_batches(sorted(now, key=lambda batch: batch.reference), self.stored.batches)
        lines = sorted((key, line) for key, line in self._lines.changed.items() if line.sku in skus)
        before_and_now = [(self.stored.lines.get(key), line) for key, line in lines]
        yield from product_writes.of_lines(before_and_now, self._lines.cancelled)
        holds = {key: hold for key, hold in self._holds.changed.items() if key[0] in skus}
        yield from product_writes.of_holds(holds, self.stored.holds)
        yield from product_writes.of_documents(self._documents.new)
