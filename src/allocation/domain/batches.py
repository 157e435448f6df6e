"""Batches of purchased stock: what has become of each, and the order in which lines are allocated to them."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Protocol, TypeAlias

from allocation.domain.events import BatchCreated, BatchReceived, EtaChanged
from allocation.domain.values import Revision

MOST_PIECES = 1_000_000_000
"""In a batch."""

Preference: TypeAlias = tuple[bool, date, date, int]


@dataclass(slots=True)
class Batch:
    """Purchased stock of one SKU: expected on `eta`, or in the warehouse, where it was received.

    Each of its pieces is in one place: promised, held, dispatched, quarantined, or available. All but the last are
    taken: `taken_quantity` is their sum. `initial_...` is what it was created with; `added` is the version that its
    product had when it was created, and again when it was received. `overdue` and `expired`: it is recorded that its
    day has passed.
    """

    reference: str
    sku: str
    eta: date | None
    expires: date | None
    initial_quantity: int
    initial_eta: date | None
    initial_expires: date | None
    purchased_quantity: int
    added: int
    location: str
    taken_quantity: int = 0
    held_quantity: int = 0
    dispatched_quantity: int = 0
    quarantined_quantity: int = 0
    overdue: bool = False
    expired: bool = False

    @classmethod
    def created(cls, event: BatchCreated, added: int) -> Batch:
        return cls(
            reference=event.ref,
            sku=event.sku,
            eta=event.eta,
            expires=event.expires,
            initial_quantity=event.qty,
            initial_eta=event.eta,
            initial_expires=event.expires,
            purchased_quantity=event.qty,
            added=added,
            location=event.location,
        )

    @property
    def is_received(self) -> bool:
        """A batch is wholly expected or wholly in the warehouse."""
        return self.eta is None

    @property
    def promised_quantity(self) -> int:
        return self.taken_quantity - self.held_quantity - self.dispatched_quantity - self.quarantined_quantity

    @property
    def available_quantity(self) -> int:
        return self.purchased_quantity - self.taken_quantity

    @property
    def on_shelf(self) -> int:
        """What a counter finds outside of quarantine."""
        return self.purchased_quantity - self.dispatched_quantity - self.quarantined_quantity

    @property
    def revision(self) -> Revision:
        days = [day.toordinal() if day else 0 for day in (self.eta, self.expires)]
        parts = self.held_quantity, self.dispatched_quantity, self.quarantined_quantity
        return self.purchased_quantity, self.taken_quantity, *parts, *days

    @property
    def preference(self) -> Preference:
        """Sorts the warehouse before shipments, early before late, what expires first before what keeps, and then as
        the batches came."""
        return self.eta is not None, self.eta or date.min, self.expires or date.max, self.added


class StoredBatches(Protocol):
    """Batches of earlier transactions. A reference is unique across SKUs."""

    def batch(self, reference: str) -> Batch | None: ...

    def read_batches(self, references: Iterable[str]) -> None:
        """At once, so that they are there when they are asked for."""
        ...

    def later_batches(self, sku: str) -> Iterable[Batch]:
        """The open ones that were not loaded with the product, since others are preferred."""
        ...


class Batches:
    """Batches by reference, and by SKU in order of preference. Without a `stored` all are in memory.

    Of a SKU with many open batches the preferred ones are loaded first, up to its `horizon`; the others when no room
    is left in those.
    """

    def __init__(self, stored: StoredBatches | None = None) -> None:
        self._stored = stored
        self._by_reference: dict[str, Batch | None] = {}
        self._by_sku: defaultdict[str, list[Batch]] = defaultdict(list)
        self._horizons: dict[str, Preference] = {}

    def add(self, batch: Batch) -> None:
        """Known by its reference already, it stays as it is."""
        if not self._by_reference.get(batch.reference):
            self._by_reference[batch.reference] = batch
            insort(self._by_sku[batch.sku], batch, key=attrgetter("preference"))

    def load(self, sku: str, batches: Iterable[Batch], horizon: Preference | None) -> None:
        """The preferred open batches of a SKU; the `horizon` is the last one's preference, if there may be more."""
        for batch in batches:
            self.add(batch)
        if horizon:
            self._horizons[sku] = horizon

    def receive(self, event: BatchReceived, added: int) -> None:
        batch = self[event.ref]
        batch.purchased_quantity = event.qty
        batch.overdue = False
        batch.expired = batch.expired and batch.expires == event.expires
        batch.expires = event.expires
        if not batch.is_received:
            batch.eta, batch.added = None, added
        self._sort(event.sku)

    def expect(self, event: EtaChanged) -> None:
        batch = self[event.ref]
        batch.eta, batch.overdue = event.eta, False
        self._sort(event.sku)

    def _sort(self, sku: str) -> None:
        self._by_sku[sku].sort(key=attrgetter("preference"))

    def get(self, reference: str) -> Batch | None:
        if self._stored and reference not in self._by_reference:
            found = self._stored.batch(reference)
            if found:
                self.add(found)
            self._by_reference.setdefault(reference, None)
        return self._by_reference.get(reference)

    def prefetch(self, references: Iterable[str]) -> None:
        if self._stored:
            self._stored.read_batches(references)

    def __getitem__(self, reference: str) -> Batch:
        """One that is known to exist. Raises KeyError."""
        batch = self.get(reference)
        if batch is None:
            raise KeyError(reference)
        return batch

    def of(self, sku: str) -> list[Batch]:
        """Those in memory, the preferred first."""
        return list(self._by_sku.get(sku, ()))

    def preferred(self, sku: str) -> Iterator[Batch]:
        """All that are open, the preferred first."""
        horizon = self._horizons.get(sku)
        if horizon is None:
            yield from self._by_sku.get(sku, ())
            return
        yield from [batch for batch in self._by_sku[sku] if batch.preference <= horizon]
        assert self._stored, "whoever loads a part of the batches can load the others"
        self.load(sku, self._stored.later_batches(sku), None)
        del self._horizons[sku]
        yield from [batch for batch in self._by_sku[sku] if batch.preference > horizon]
