"""Order lines, what they have of which batches, and the orders that they belong to."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from allocation.domain.batches import Batch
from allocation.domain.commands import Allocate
from allocation.domain.events import Allocated, Deallocated, Dispatched, LineReleased, OutOfStock, Returned

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
    """What a line has of one batch: the `qty` of `line` is promised, and so much more was `dispatched`.

    `version` is that of its product when the promise was made: the higher, the newer.
    """

    line: OrderLine
    batchref: str
    version: int
    dispatched: int = 0


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """What is known of a line: what it has, at most once a batch, and how much of it came back.

    The batch that something was dispatched from last is the last of those. A line that was released or broken
    is known, and has nothing.
    """

    orderid: str
    lineid: str
    sku: str
    allocations: tuple[Allocation, ...] = ()
    returned: int = 0

    @property
    def key(self) -> LineKey:
        return self.orderid, self.lineid

    @property
    def promised(self) -> int:
        return sum(allocation.line.qty for allocation in self.allocations)

    @property
    def dispatched(self) -> int:
        return sum(allocation.dispatched for allocation in self.allocations)

    @property
    def qty(self) -> int:
        return self.promised + self.dispatched + self.returned

    @property
    def batch_quantities(self) -> Mapping[str, int]:
        """What it has of each batch, there or gone."""
        return {one.batchref: one.line.qty + one.dispatched for one in self.allocations}

    def of_batch(self, batchref: str) -> Allocation | None:
        return next((allocation for allocation in self.allocations if allocation.batchref == batchref), None)

    def promise(self, batchref: str, qty: int, version: int) -> PlacedLine:
        """More of a batch of which something is promised keeps its age; a batch that the line has keeps its place."""
        there = self.of_batch(batchref) if self.allocations else None
        if there and there.line.qty:
            return self._with(there, promised=qty)
        line = OrderLine(self.orderid, self.sku, qty, self.lineid)
        new = Allocation(line, batchref, version, there.dispatched if there else 0)
        kept = tuple(new if one is there else one for one in self.allocations) if there else (*self.allocations, new)
        return PlacedLine(self.orderid, self.lineid, self.sku, kept, self.returned)

    def give_back(self, batchref: str, qty: int) -> PlacedLine:
        return self._with(self._known(batchref), promised=-qty)

    def dispatch(self, batchref: str, qty: int) -> PlacedLine:
        there = self._known(batchref)
        last = replace(self, allocations=(*(one for one in self.allocations if one is not there), there))
        return last._with(there, promised=-qty, dispatched=qty)

    def take_back(self, batchref: str, qty: int) -> PlacedLine:
        return replace(self._with(self._known(batchref), dispatched=-qty), returned=self.returned + qty)

    def _known(self, batchref: str) -> Allocation:
        found = self.of_batch(batchref)
        if found is None:
            raise KeyError(batchref)
        return found

    def _with(self, there: Allocation, promised: int = 0, dispatched: int = 0) -> PlacedLine:
        line = replace(there.line, qty=there.line.qty + promised)
        now = replace(there, line=line, dispatched=there.dispatched + dispatched)
        kept = (now if one is there else one for one in self.allocations)
        return replace(self, allocations=tuple(one for one in kept if one.line.qty or one.dispatched))


class StoredLines(Protocol):
    """Lines of earlier transactions. A line's key is unique across SKUs."""

    def read_line(self, key: LineKey) -> PlacedLine | None: ...

    def read_lines(self, keys: Sequence[LineKey]) -> None:
        """At once, so that they are there when they are asked for."""
        ...

    def read_lines_of(self, orderid: str) -> list[PlacedLine]: ...

    def is_cancelled(self, orderid: str) -> bool: ...

    def newest_allocations(self, batch: Batch) -> Iterator[Allocation]:
        """What is promised from one batch, the newest first."""
        ...


@dataclass
class Lines:
    """All lines by their key. Without a `stored` all are in memory."""

    stored: StoredLines | None = None
    changed: dict[LineKey, PlacedLine] = field(default_factory=dict)
    """Since they were stored."""
    cancelled: set[str] = field(default_factory=set)
    """Orders, since they were stored."""

    def get(self, key: LineKey) -> PlacedLine | None:
        if key in self.changed or not self.stored:
            return self.changed.get(key)
        return self.stored.read_line(key)

    def __getitem__(self, key: LineKey) -> PlacedLine:
        """One that is known. Raises KeyError."""
        line = self.get(key)
        if line is None:
            raise KeyError(key)
        return line

    def of_order(self, orderid: str) -> list[PlacedLine]:
        """By their ids."""
        known = {line.key: line for line in (self.stored.read_lines_of(orderid) if self.stored else ())}
        now = known | {key: line for key, line in self.changed.items() if key[0] == orderid}
        return [line for _, line in sorted(now.items())]

    def of_sku(self, sku: str) -> dict[LineKey, PlacedLine]:
        """Those in memory."""
        return {key: line for key, line in self.changed.items() if line.sku == sku}

    def newest(self, batch: Batch) -> Iterator[Allocation]:
        """What is promised from one batch, the newest first."""
        in_memory = (line.of_batch(batch.reference) for line in self.changed.values())
        ours = sorted((one for one in in_memory if one and one.line.qty), key=_age)
        stored = self.stored.newest_allocations(batch) if self.stored else ()
        return heapq.merge(ours, (one for one in stored if one.line.key not in self.changed), key=_age)

    def prefetch(self, keys: Sequence[LineKey]) -> None:
        if self.stored:
            self.stored.read_lines(keys)

    def is_cancelled(self, orderid: str) -> bool:
        return orderid in self.cancelled or bool(self.stored and self.stored.is_cancelled(orderid))

    def promise(self, event: Allocated, version: int) -> None:
        line = self.get((event.orderid, event.lineid))
        if line is None or line.sku != event.sku:  # of one that has nothing any other SKU may come
            line = PlacedLine(event.orderid, event.lineid, event.sku)
        self._set(line.promise(event.batchref, event.qty, version))

    def give_back(self, event: Deallocated | LineReleased) -> None:
        """A line that has nothing any more is known all the same, since its order may be cancelled."""
        self._set(self[event.orderid, event.lineid].give_back(event.batchref, event.qty))

    def dispatch(self, event: Dispatched) -> None:
        self._set(self[event.orderid, event.lineid].dispatch(event.batchref, event.qty))

    def take_back(self, event: Returned) -> None:
        self._set(self[event.orderid, event.lineid].take_back(event.batchref, event.qty))

    def _set(self, line: PlacedLine) -> None:
        self.changed[line.key] = line


def _age(allocation: Allocation) -> int:
    return -allocation.version
