"""Batches of purchased stock, in the order in which lines are allocated to them."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Protocol, TypeAlias

from allocation.domain.events import BatchCreated

Preference: TypeAlias = tuple[bool, date, int]


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


class StoredBatches(Protocol):
    """Batches of earlier transactions. A reference is unique across SKUs."""

    def batch(self, reference: str) -> Batch | None: ...

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

    def get(self, reference: str) -> Batch | None:
        if self._stored and reference not in self._by_reference:
            found = self._stored.batch(reference)
            if found:
                self.add(found)
            self._by_reference.setdefault(reference, None)
        return self._by_reference.get(reference)

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
