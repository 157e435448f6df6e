"""The rules of allocation: which batch a line is promised from, and which promise is broken first.

Errors:

    DomainError
    ├── InvalidSku        the SKU was never purchased
    ├── UnknownBatch      no batch has this reference
    ├── BatchConflict     the reference belongs to a batch that was created differently
    ├── StaleBatch        the batch is no longer what the caller has seen
    └── LineConflict      the order line is promised already, with another SKU or quantity
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Protocol, TypeAlias, assert_never

from allocation.domain.commands import Allocate
from allocation.domain.events import Allocated, BatchCreated, BatchQuantityChanged, Deallocated, Event, OutOfStock


class DomainError(Exception):
    """The business says no; asking again will not help."""


class InvalidSku(DomainError):
    def __init__(self, sku: str) -> None:
        super().__init__(f"Invalid sku {sku}")


class UnknownBatch(DomainError):
    def __init__(self, reference: str) -> None:
        super().__init__(f"Unknown batch {reference}")


class BatchConflict(DomainError):
    def __init__(self, batch: Batch) -> None:
        created = f"{batch.initial_quantity} of {batch.sku}, eta {batch.eta or 'none (in the warehouse)'}"
        super().__init__(f"Batch {batch.reference} exists already, created with {created}")


class StaleBatch(DomainError):
    def __init__(self, batch: Batch) -> None:
        purchased, allocated = batch.quantities
        super().__init__(f"Batch {batch.reference} has changed: {purchased} purchased and {allocated} allocated now")


class LineConflict(DomainError):
    def __init__(self, promised: OrderLine) -> None:
        line = f"Line {promised.lineid} of order {promised.orderid}"
        super().__init__(f"{line} is allocated already with {promised.qty} of {promised.sku}")


LineKey: TypeAlias = tuple[str, str]
Preference: TypeAlias = tuple[bool, date, int]


@dataclass(frozen=True, slots=True)
class OrderLine:
    """What a customer ordered of one SKU. Known by its order and its line id; without one by the SKU."""

    orderid: str
    sku: str
    qty: int
    lineid: str = ""

    def __post_init__(self) -> None:
        if not self.lineid:
            object.__setattr__(self, "lineid", self.sku)

    @classmethod
    def of(cls, said: Allocate | Allocated | Deallocated | OutOfStock) -> OrderLine:
        """The line that a command or an event is about."""
        return cls(said.orderid, said.sku, said.qty, said.lineid)

    @property
    def key(self) -> LineKey:
        return self.orderid, self.lineid


@dataclass(frozen=True, slots=True)
class Promise:
    """A line and the batch it was promised from."""

    line: OrderLine
    batchref: str


@dataclass(slots=True)
class Batch:
    """Purchased stock of one SKU: in the warehouse, or expected on `eta`.

    `initial_quantity` is what it was created with, `added` the version its product had then.
    """

    reference: str
    sku: str
    eta: date | None
    initial_quantity: int
    purchased_quantity: int
    allocated_quantity: int
    added: int

    @classmethod
    def created(cls, event: BatchCreated, added: int) -> Batch:
        return cls(
            reference=event.ref,
            sku=event.sku,
            eta=event.eta,
            initial_quantity=event.qty,
            purchased_quantity=event.qty,
            allocated_quantity=0,
            added=added,
        )

    @property
    def available_quantity(self) -> int:
        return self.purchased_quantity - self.allocated_quantity

    @property
    def quantities(self) -> tuple[int, int]:
        """Purchased and allocated: all of a batch that ever changes."""
        return self.purchased_quantity, self.allocated_quantity

    @property
    def preference(self) -> Preference:
        """Sorts the warehouse before shipments, early before late, and then as the batches were added."""
        return self.eta is not None, self.eta or date.min, self.added

    def can_allocate(self, line: OrderLine) -> bool:
        return self.sku == line.sku and self.available_quantity >= line.qty


class Archive(Protocol):
    """What a product does not carry with it, looked up only when a rule needs it.

    An order line and a batch reference are unique across SKUs, so both are found whatever SKU they belong to.
    """

    def open_batches_behind(self, horizon: Preference, sku: str) -> Iterable[Batch]:
        """Those that have room and are preferred less than the last one that the product was loaded with."""
        ...

    def promise(self, key: LineKey) -> Promise | None: ...

    def batch(self, reference: str) -> Batch | None: ...

    def newest_promises(self, batch: Batch) -> Iterator[Promise]:
        """The promises from one batch, the latest first."""
        ...


class EmptyArchive:
    """The archive of a product that is all in memory."""

    def open_batches_behind(self, horizon: Preference, sku: str) -> Iterable[Batch]:  # noqa: ARG002 - it has the port's shape
        return ()

    def promise(self, key: LineKey) -> Promise | None:  # noqa: ARG002 - it has the port's shape
        return None

    def batch(self, reference: str) -> Batch | None:  # noqa: ARG002 - it has the port's shape
        return None

    def newest_promises(self, batch: Batch) -> Iterator[Promise]:  # noqa: ARG002 - it has the port's shape
        return iter(())


class Product:
    """One SKU: the smallest thing whose promises must stay consistent.

    A product changes in one way only: `_record` applies an event and remembers it. Its version is therefore counted,
    never set, and cannot be forgotten. Public methods decide, and refuse before anything changed; applying never fails.

    Of a product with many open batches those up to the `horizon` are at hand; the others are looked up when no room is
    left before them.
    """

    def __init__(
        self,
        sku: str,
        batches: Iterable[Batch] = (),
        version_number: int = 0,
        archive: Archive | None = None,
        horizon: Preference | None = None,
    ) -> None:
        self.sku = sku
        self.events: list[Event] = []
        self._batches = {batch.reference: batch for batch in batches}
        self._promises: dict[LineKey, Promise | None] = {}  # as of this visit, oldest first; None: broken
        self._version_when_loaded = version_number
        self._archive = archive or EmptyArchive()
        self._horizon = horizon

    @classmethod
    def replay(cls, sku: str, history: Iterable[Event], archive: Archive | None = None) -> Product:
        """The product as its whole history left it."""
        product = cls(sku, archive=archive)
        for event in history:
            product.relive(event)
        return product

    def relive(self, event: Event) -> None:
        """Take in the next event of its past: it counts in the version, and is not new."""
        self._apply(event)
        self._version_when_loaded += 1

    @property
    def version_number(self) -> int:
        return self._version_when_loaded + len(self.events)

    @property
    def batches(self) -> list[Batch]:
        """The batches at hand, the preferred first."""
        return sorted(self._batches.values(), key=attrgetter("preference"))

    @property
    def promises(self) -> list[Promise]:
        """The promises made since the product was loaded and still kept, oldest first."""
        return [promise for promise in self._promises.values() if promise]

    def __eq__(self, other: object) -> bool:
        """Whether two products in memory are in the same state; the order of promises is part of it."""
        if not isinstance(other, Product):
            return NotImplemented
        return (self.sku, self.version_number, self.batches, self.promises) == (
            (other.sku, other.version_number, other.batches, other.promises)
        )

    __hash__ = None  # type: ignore[assignment]  # a product changes

    def add_batch(self, reference: str, qty: int, eta: date | None = None) -> None:
        """Add purchased stock. The identical batch again changes nothing."""
        if batch := self._find_batch(reference):
            if (batch.sku, batch.initial_quantity, batch.eta) != (self.sku, qty, eta):
                raise BatchConflict(batch)
            return
        self._record(BatchCreated(reference, self.sku, qty, eta))

    def allocate(self, line: OrderLine) -> str | None:
        """Promise the line from the best batch that has room and name it; None: out of stock.

        Asking again for a line already promised names its batch and changes nothing.
        """
        if not self.version_number:
            raise InvalidSku(self.sku)
        if promise := self._find_promise(line.key):
            if promise.line != line:
                raise LineConflict(promise.line)
            return promise.batchref
        for batch in self._all_batches():
            if batch.can_allocate(line):
                self._record(Allocated(line.orderid, line.sku, line.qty, batch.reference, line.lineid))
                return batch.reference
        self._record(OutOfStock(line.orderid, line.sku, line.qty, line.lineid))
        return None

    def change_batch_quantity(self, reference: str, qty: int, seen: Collection[tuple[int, int]] | None = None) -> None:
        """State what the batch holds, and break its newest promises until the rest fits.

        What is broken is recorded oldest promise first, the order in which it is to be placed again. With `seen`, only
        if the batch's quantities are among these.
        """
        batch = self._find_batch(reference)
        if batch is None or batch.sku != self.sku:
            raise UnknownBatch(reference)
        if seen is not None and batch.quantities not in seen:
            raise StaleBatch(batch)
        if batch.purchased_quantity == qty:
            return
        broken = list(self._newest_promises_over(batch, qty))
        self._record(BatchQuantityChanged(reference, self.sku, qty))
        for promise in reversed(broken):
            line = promise.line
            self._record(Deallocated(line.orderid, line.sku, line.qty, reference, line.lineid))

    def _newest_promises_over(self, batch: Batch, qty: int) -> Iterator[Promise]:
        too_much = batch.allocated_quantity - qty
        if too_much <= 0:
            return
        for promise in self._newest_promises(batch):
            yield promise
            too_much -= promise.line.qty
            if too_much <= 0:
                return

    def _newest_promises(self, batch: Batch) -> Iterator[Promise]:
        for promise in reversed(self.promises):
            if promise.batchref == batch.reference:
                yield promise
        for promise in self._archive.newest_promises(batch):
            if promise.line.key not in self._promises:
                yield promise

    def _all_batches(self) -> Iterator[Batch]:
        """The preferred first."""
        if self._horizon is None:
            yield from self.batches
            return
        horizon = self._horizon
        yield from (batch for batch in self.batches if batch.preference <= horizon)
        for batch in self._archive.open_batches_behind(horizon, self.sku):
            self._batches.setdefault(batch.reference, batch)
        self._horizon = None
        yield from (batch for batch in self.batches if batch.preference > horizon)

    def _find_promise(self, key: LineKey) -> Promise | None:
        if promise := self._promises.get(key):
            return promise
        promise = self._archive.promise(key)
        broken_by_us = key in self._promises
        return None if broken_by_us and promise and promise.line.sku == self.sku else promise

    def _find_batch(self, reference: str) -> Batch | None:
        if reference in self._batches:
            return self._batches[reference]
        batch = self._archive.batch(reference)
        if batch and batch.sku == self.sku:
            self._batches[reference] = batch
        return batch

    def _record(self, event: Event) -> None:
        self._apply(event)
        self.events.append(event)

    def _apply(self, event: Event) -> None:
        match event:
            case BatchCreated():
                self._batches[event.ref] = Batch.created(event, added=self.version_number + 1)
            case BatchQuantityChanged():
                self._batches[event.ref].purchased_quantity = event.qty
            case Allocated():
                line = OrderLine.of(event)
                self._promises.pop(line.key, None)  # placed again: the newest promise now
                self._promises[line.key] = Promise(line, event.batchref)
                self._batches[event.batchref].allocated_quantity += event.qty
            case Deallocated():
                self._promises[event.orderid, event.lineid] = None
                self._batches[event.batchref].allocated_quantity -= event.qty
            case OutOfStock():
                pass
            case _:
                assert_never(event)
