"""The service's ports in memory. A product is the replay of its history, so the fake knows no rule of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, cast

from allocation.domain.batches import Batches
from allocation.domain.commands import Command
from allocation.domain.documents import Documents
from allocation.domain.errors import DomainError, UnknownBatch, UnknownLine
from allocation.domain.events import Allocated, BatchCreated, Deallocated, Event, LineReleased
from allocation.domain.holding import end_due
from allocation.domain.holds import Holds
from allocation.domain.lines import LineKey, Lines, PlacedLine
from allocation.domain.product import Product
from allocation.service_layer.ports import Mail, UnitOfWork
from allocation.service_layer.routing import routes
from messaging.bus import MessageBus
from messaging.envelope import Delivery, NewEvent, Recorded
from messaging.errors import ConcurrencyConflict
from messaging.outbox.relay import Relay
from messaging.retry import Retry
from messaging.testing import Memory, MemoryDeliveries, MemoryTransaction


@dataclass(frozen=True)
class Shown:
    """A row of the read model."""

    orderid: str
    lineid: str
    sku: str
    qty: int
    batchref: str


View = dict[tuple[LineKey, str], Shown]

TODAY = date(2026, 3, 11)
NOON = datetime.combine(TODAY, time(12), UTC)


class FakeProducts:
    """Products replayed from the log, all of them: rules look across SKUs."""

    def __init__(self, transaction: MemoryTransaction, now: datetime = NOON) -> None:
        self.now = now
        self._log = {sku: list(log) for sku, log in transaction.memory.log.items()}
        self._new: list[NewEvent[Event]] = []
        self._collected = 0
        self._replay()

    def get(self, sku: str) -> Product:
        product = self._product(sku)
        if sku not in self._is_up_to_date:
            self._is_up_to_date.add(sku)
            due = [hold for hold in self.holds.of_sku(sku).values() if hold.until <= self.now]
            end_due(product, sorted(due, key=lambda hold: (hold.until, hold.version)))
        return product

    def _product(self, sku: str) -> Product:
        if sku not in self._products:
            together = self.batches, self.lines, self.documents
            self._products[sku] = Product(
                sku,
                0,
                *together,
                holds=self.holds,
                now=lambda: self.now,
                today=self.now.date,  # in its own zone
                on_event=self._record,
            )
        return self._products[sku]

    def line(self, orderid: str, lineid: str) -> PlacedLine:
        line = self.lines.get((orderid, lineid))
        if line is None:
            raise UnknownLine(orderid, lineid)
        self.get(line.sku)
        return self.lines[line.key]

    def lines_of(self, orderid: str) -> list[PlacedLine]:
        for sku in {line.sku for line in self.lines.of_order(orderid)}:
            self.get(sku)
        return self.lines.of_order(orderid)

    def get_by_batchref(self, batchref: str) -> Product:
        batch = self.batches.get(batchref)
        if batch is None:
            raise UnknownBatch(batchref)
        return self.get(batch.sku)

    def collect_new_events(self) -> list[NewEvent[Event]]:
        new = self._new[self._collected :]
        self._collected = len(self._new)
        return new

    def discard_new_events(self) -> None:
        del self._new[self._collected :]
        self._replay()
        for new in self._new:
            self._product(new.stream).apply(new.event)
            self._product(new.stream).freed_batches.clear()

    def _record(self, product: Product, version: int, event: Event) -> None:
        self._new.append(NewEvent(product.sku, version, event))

    def _replay(self) -> None:
        """All that ever happened, to whatever SKU."""
        self.batches, self.lines, self.documents, self.holds = Batches(), Lines(), Documents(), Holds()
        self._is_up_to_date: set[str] = set()
        self._products: dict[str, Product] = {}
        for recorded in heapq.merge(*self._log.values(), key=lambda recorded: recorded.metadata.time):
            self._product(recorded.stream).apply(cast(Event, recorded.event))
        for product in self._products.values():
            product.freed_batches.clear()


class FakeUnitOfWork(MemoryTransaction):
    def __init__(self, memory: Memory, view: View, now: datetime) -> None:
        super().__init__(memory)
        self.products = FakeProducts(self, now)
        self.allocations_view = FakeAllocationsView(view)

    def collect_new_events(self) -> list[NewEvent[Event]]:
        return self.products.collect_new_events()

    def discard_new_events(self) -> None:
        self.products.discard_new_events()

    def commit(self) -> None:
        self._require_identities_of_our_own()
        super().commit()
        self.allocations_view.commit()

    def _require_identities_of_our_own(self) -> None:
        """As the tables keyed by batch reference and by order line do it."""
        committed = FakeProducts(MemoryTransaction(self.memory))
        given_back = {
            (e.orderid, e.lineid)
            for e in (recorded.event for recorded in self._log)
            if isinstance(e, Deallocated | LineReleased)
        }
        for recorded in self._log:
            event = recorded.event
            if isinstance(event, BatchCreated):
                batch = committed.batches.get(event.ref)
                if batch and batch.sku != recorded.stream:
                    raise ConcurrencyConflict(f"batch {event.ref} was created meanwhile")
            if isinstance(event, Allocated):
                key = event.orderid, event.lineid
                line = committed.lines.get(key)
                if line and line.qty and line.sku != recorded.stream and key not in given_back:
                    raise ConcurrencyConflict(f"line {event.lineid} of order {event.orderid} was allocated meanwhile")


class FakeAllocationsView:
    def __init__(self, view: View) -> None:
        self._view = view
        self._changes: list[Callable[[], object]] = []

    def show(self, key: LineKey, line: PlacedLine | None) -> None:
        rows = {ref: Shown(*key, line.sku, qty, ref) for ref, qty in line.batch_quantities.items()} if line else {}
        self._changes.append(lambda: self._show(key, rows))

    def _show(self, key: LineKey, rows: dict[str, Shown]) -> None:
        for there in [place for place in self._view if place[0] == key and place[1] not in rows]:
            del self._view[there]
        self._view.update({(key, ref): row for ref, row in rows.items()})

    def commit(self) -> None:
        for change in self._changes:
            change()


@dataclass
class FakePublisher:
    published: list[Recorded[Event]] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)

    def publish(self, deliveries: Sequence[Delivery[Event]]) -> Mapping[str, Exception]:
        self.published += [one.recorded for one in deliveries if one.recorded.stream not in self.failures]
        return self.failures


@dataclass
class FakeNotifications:
    sent: list[Mail] = field(default_factory=list)

    def send(self, mail: Mail) -> None:
        self.sent.append(mail)


class Service:
    """The whole service in memory: given what was asked before, when this is asked, then look."""

    def __init__(self, today: date = TODAY, now: datetime | None = None) -> None:
        self.memory = Memory()
        self.view: View = {}
        self.now = now or datetime.combine(today, time(12), UTC)
        self.publisher = FakePublisher()
        self.notifications = FakeNotifications()
        table = routes(self.notifications, self.publisher, "stock@made.com")
        self.bus: MessageBus[UnitOfWork] = MessageBus(
            table,
            self.unit_of_work,
            DomainError,
            Retry(conflict_deadline=0.1, outage_deadline=0.01),
        )
        self.relay = Relay(table, MemoryDeliveries(self.memory))

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        yield FakeUnitOfWork(self.memory, self.view, self.now)

    def given(self, *commands: Command) -> None:
        for command in commands:
            self.bus.handle(command)

    def when(self, command: Command) -> Any:
        """What is answered, once all effects are carried out."""
        answer = self.bus.handle(command)
        for effect in self.relay.routes.all_effect_names():
            while self.relay.deliver(effect):
                pass
        return answer

    def history(self, sku: str) -> list[object]:
        return [recorded.event for recorded in self.memory.log[sku]]

    @property
    def allocations(self) -> dict[str, str]:
        """The batch of each order."""
        return {row.orderid: row.batchref for row in self.shown}

    @property
    def shown(self) -> list[Shown]:
        """The read model."""
        return [*self.view.values()]
