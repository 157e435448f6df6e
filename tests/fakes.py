"""The service's ports in memory. A product is the replay of its history, so the fake knows no rule of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from allocation.domain.commands import Command
from allocation.domain.events import Allocated, BatchCreated, Deallocated, Event
from allocation.domain.model import Batch, DomainError, EmptyArchive, LineKey, Product, Promise, UnknownBatch
from allocation.service_layer.ports import UnitOfWork
from allocation.service_layer.routing import routes
from messaging.bus import MessageBus
from messaging.envelope import Delivery, NewEvent, Recorded
from messaging.errors import ConcurrencyConflict
from messaging.relay import Relay
from messaging.retry import Retry
from messaging.testing import Memory, MemoryDeliveries, MemoryTransaction

View = dict[LineKey, Allocated]


class FakeProducts:
    """Products replayed from the log; all of them, where a rule looks across SKUs."""

    def __init__(self, transaction: MemoryTransaction) -> None:
        self._transaction = transaction
        self._loaded: dict[str, Product] = {}
        self._collected: dict[str, int] = {}

    def get(self, sku: str) -> Product:
        if sku not in self._loaded:
            history = cast(list[Event], self._transaction.history(sku))
            self._loaded[sku] = Product.replay(sku, history, archive=FakeArchive(self))
        return self._loaded[sku]

    def get_by_batchref(self, batchref: str) -> Product:
        for product in self.all():
            if any(batch.reference == batchref for batch in product.batches):
                return product
        raise UnknownBatch(batchref)

    def all(self) -> list[Product]:
        return [self.get(sku) for sku in [*self._transaction.memory.log, *self._loaded]]

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        for sku, product in list(self._loaded.items()):
            before = product.version_number - len(product.events)
            for number in range(self._collected.get(sku, 0), len(product.events)):
                yield NewEvent(sku, before + number + 1, product.events[number])
            self._collected[sku] = len(product.events)


class FakeArchive(EmptyArchive):
    """Finds lines and batches of other SKUs; a replayed product knows all of its own."""

    def __init__(self, products: FakeProducts) -> None:
        self._products = products

    def promise(self, key: LineKey) -> Promise | None:
        kept = (promise for product in self._products.all() for promise in product.promises)
        return next((promise for promise in kept if promise.line.key == key), None)

    def batch(self, reference: str) -> Batch | None:
        batches = (batch for product in self._products.all() for batch in product.batches)
        return next((batch for batch in batches if batch.reference == reference), None)


class FakeUnitOfWork(MemoryTransaction):
    def __init__(self, memory: Memory, view: View) -> None:
        super().__init__(memory)
        self.products = FakeProducts(self)
        self.allocations_view = FakeAllocationsView(view)

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        return self.products.collect_new_events()

    def commit(self) -> None:
        self._require_identities_of_our_own()
        super().commit()
        self.allocations_view.commit()

    def _require_identities_of_our_own(self) -> None:
        """As the tables keyed by batch reference and by order line do it."""
        committed = FakeProducts(MemoryTransaction(self.memory))
        broken = {
            (e.orderid, e.lineid) for e in (recorded.event for recorded in self._log) if isinstance(e, Deallocated)
        }
        for recorded in self._log:
            theirs = [product for product in committed.all() if product.sku != recorded.stream]
            event = recorded.event
            if isinstance(event, BatchCreated) and any(
                batch.reference == event.ref for product in theirs for batch in product.batches
            ):
                raise ConcurrencyConflict(f"batch {event.ref} was created meanwhile")
            if isinstance(event, Allocated) and any(
                promise.line.key == (event.orderid, event.lineid) and promise.line.key not in broken
                for product in theirs
                for promise in product.promises
            ):
                raise ConcurrencyConflict(f"line {event.lineid} of order {event.orderid} was allocated meanwhile")


class FakeAllocationsView:
    def __init__(self, view: View) -> None:
        self._view = view
        self._changes: list[Callable[[], object]] = []

    def add(self, event: Allocated) -> None:
        self._changes.append(lambda: self._view.__setitem__((event.orderid, event.lineid), event))

    def remove(self, event: Deallocated) -> None:
        self._changes.append(lambda: self._view.pop((event.orderid, event.lineid)))

    def commit(self) -> None:
        for change in self._changes:
            change()


@dataclass
class FakePublisher:
    published: list[Recorded[Event]] = field(default_factory=list)

    def publish(self, deliveries: Sequence[Delivery[Event]]) -> Mapping[str, Exception]:
        self.published += [delivery.recorded for delivery in deliveries]
        return {}


@dataclass(frozen=True)
class Mail:
    message_id: str
    correlation_id: str
    to: str
    subject: str
    body: str


@dataclass
class FakeNotifications:
    sent: list[Mail] = field(default_factory=list)

    def send(self, *, message_id: str, correlation_id: str, to: str, subject: str, body: str) -> None:
        self.sent.append(Mail(message_id, correlation_id, to, subject, body))


class Service:
    """The whole service in memory: given what was asked before, when this is asked, then look."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.view: View = {}
        self.publisher = FakePublisher()
        self.notifications = FakeNotifications()
        table = routes(self.notifications, self.publisher, "stock@made.com")
        self.bus: MessageBus[UnitOfWork] = MessageBus(
            table, self.unit_of_work, DomainError, Retry(conflict_deadline=0.1, outage_deadline=0.01)
        )
        self.relay = Relay(table, MemoryDeliveries(self.memory))

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        yield FakeUnitOfWork(self.memory, self.view)

    def given(self, *commands: Command) -> None:
        for command in commands:
            self.bus.handle(command)

    def when(self, command: Command) -> object:
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
        return {orderid: event.batchref for (orderid, _), event in self.view.items()}
