"""Order lines, and the batches they are allocated to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from allocation.domain.batches import Batch
from allocation.domain.commands import Allocate
from allocation.domain.events import Allocated, Deallocated, OutOfStock

LineKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class OrderLine:
    """What a customer ordered of one SKU, known by its order and its line id; without one by the SKU."""

    orderid: str
    sku: str
    qty: int
    lineid: str = ""

    def __post_init__(self) -> None:
        if not self.lineid:
            object.__setattr__(self, "lineid", self.sku)

    @classmethod
    def of(cls, message: Allocate | Allocated | Deallocated | OutOfStock) -> OrderLine:
        """The line that a command or an event is about."""
        return cls(message.orderid, message.sku, message.qty, message.lineid)

    @property
    def key(self) -> LineKey:
        return self.orderid, self.lineid


@dataclass(frozen=True, slots=True)
class Allocation:
    """A line and the batch it is allocated to. `version` is that of its product: the higher, the newer."""

    line: OrderLine
    batchref: str
    version: int


class StoredAllocations(Protocol):
    """Allocations of earlier transactions. A line's key is unique across SKUs."""

    def allocation(self, key: LineKey) -> Allocation | None: ...

    def newest_allocations(self, batch: Batch) -> Iterator[Allocation]:
        """Those to one batch, the newest first."""
        ...


class Allocations:
    """All allocations by line. Without a `stored` all are in memory."""

    def __init__(self, stored: StoredAllocations | None = None) -> None:
        self._stored = stored
        self.changed: dict[LineKey, Allocation | None] = {}
        """Since they were stored, the oldest first; None: removed."""

    def __iter__(self) -> Iterator[Allocation]:
        """Those in memory, the oldest first."""
        return (allocation for allocation in self.changed.values() if allocation)

    def get(self, key: LineKey) -> Allocation | None:
        if key in self.changed or not self._stored:
            return self.changed.get(key)
        return self._stored.allocation(key)

    def newest(self, batch: Batch) -> Iterator[Allocation]:
        """Those to one batch, the newest first."""
        for allocation in reversed(list(self)):
            if allocation.batchref == batch.reference:
                yield allocation
        for allocation in self._stored.newest_allocations(batch) if self._stored else ():
            if allocation.line.key not in self.changed:
                yield allocation

    def add(self, allocation: Allocation) -> None:
        self.changed.pop(allocation.line.key, None)  # the newest now
        self.changed[allocation.line.key] = allocation

    def remove(self, key: LineKey) -> None:
        self.changed[key] = None
