"""Order lines, what they have of which batches, and the orders that they belong to."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from operator import attrgetter
from typing import Protocol, TypeAlias

from allocation.domain.batches import Batch
from allocation.domain.commands import Allocate, PlaceOrder
from allocation.domain.events import Allocated, Backordered, Deallocated, Dispatched, LineReleased, OutOfStock, Returned
from allocation.domain.values import USUAL_PRIORITY, KnownBySku

LineKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class LineTerms:
    """What may be promised to a line, and in which turn: the higher the `priority` (0 to 9) the earlier.

    It wants nothing that comes after the day `needed_by`, and only what lies at one of its `locations`, the first
    preferred; without any, from anywhere. It `may_split` over several batches. One that `waits` is backordered when
    nothing fits; else it is out of stock.
    """

    priority: int = USUAL_PRIORITY
    needed_by: date | None = None
    may_split: bool = False
    waits: bool = False
    locations: tuple[str, ...] = ()

    @classmethod
    def of(cls, event: Allocated | Backordered) -> LineTerms:
        if isinstance(event, Allocated) and not event.waits:
            return SINGLE_LINE
        return cls(event.priority, event.needed_by, event.may_split, True, event.locations)

    @classmethod
    def of_order(cls, cmd: PlaceOrder) -> LineTerms:
        may_split = cmd.may_split or cmd.mode == "partial"
        return cls(cmd.priority, cmd.needed_by, may_split, True, tuple(cmd.locations or ()))


SINGLE_LINE = LineTerms()
"""Those of a line that is allocated by itself."""


def there_on(eta: date | None, today: date) -> date:
    """The day on which goods are there. Without an `eta` they are already, and what is overdue comes today at the
    earliest."""
    return max(eta, today) if eta else today


def is_too_late(eta: date | None, needed_by: date | None, today: date) -> bool:
    """Whether goods that are expected miss that day; what is in the warehouse never does."""
    return eta is not None and needed_by is not None and there_on(eta, today) > needed_by


def is_at_risk(etas: Iterable[date | None], waits: bool, needed_by: date | None, today: date) -> bool:
    """Whether something that is promised comes after the day on which it is needed, or that is past while the line
    waits. `etas`: of its promises, None for what is here."""
    return any(is_too_late(eta, needed_by, today) for eta in [*etas, *([today] if waits else [])])


@dataclass(frozen=True, slots=True)
class OrderLine(KnownBySku):
    """What a customer ordered of one SKU, known by its order and its line id."""

    orderid: str
    sku: str
    qty: int
    lineid: str = ""

    @classmethod
    def of(cls, message: Allocate | Allocated | Deallocated | OutOfStock) -> OrderLine:
        """The line that a command or an event is about."""
        return cls(message.orderid, message.sku, message.qty, message.lineid)

    @property
    def key(self) -> LineKey:
        return self.orderid, self.lineid


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a line has of one batch: so much is `promised`, and so much more was `dispatched`.

    `version` is that of its product when the promise was made: the higher, the newer. `priority` and `needed_by` are
    the line's.
    """

    sku: str
    version: int
    orderid: str
    lineid: str
    promised: int
    batchref: str
    dispatched: int = 0
    priority: int = USUAL_PRIORITY
    needed_by: date | None = SINGLE_LINE.needed_by

    @property
    def line_key(self) -> LineKey:
        return self.orderid, self.lineid


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """What is known of a line: what it has, at most once a batch, how much it waits for, and how much of it came back.

    The batch that something was dispatched from last is the last of those. A line that was released or broken
    is known, and has nothing. `since` is the version of its product at which it was accepted, 0 for one that never
    waits: of equal priority, who was accepted first is served first.
    """

    orderid: str
    lineid: str
    sku: str
    allocations: tuple[Allocation, ...] = ()
    returned: int = 0
    terms: LineTerms = SINGLE_LINE
    since: int = 0
    waiting: int = 0

    @property
    def key(self) -> LineKey:
        return self.orderid, self.lineid

    @property
    def promised(self) -> int:
        return sum(allocation.promised for allocation in self.allocations)

    @property
    def promises(self) -> list[Allocation]:
        """Of which batches something is promised."""
        return [allocation for allocation in self.allocations if allocation.promised]

    @property
    def dispatched(self) -> int:
        return sum(allocation.dispatched for allocation in self.allocations)

    @property
    def qty(self) -> int:
        return self.waiting + self.promised + self.dispatched + self.returned

    @property
    def is_pending(self) -> bool:
        """Whether something is promised to it, or it waits."""
        return bool(self.waiting or self.promised)

    @property
    def has_pieces(self) -> bool:
        """Whether it has anything, or waits for it."""
        return bool(self.allocations or self.waiting)

    def is_same(self, sku: str, qty: int) -> bool:
        """Whether this is what is asked for again: so much of that SKU, of which not all came back."""
        return (self.sku, self.qty) == (sku, qty) and self.has_pieces

    @property
    def turn(self) -> tuple[int, int]:
        """Sorts those who wait: the first is served first."""
        return -self.terms.priority, self.since

    @property
    def batch_quantities(self) -> Mapping[str, int]:
        """What it has of each batch, there or gone."""
        return {one.batchref: one.promised + one.dispatched for one in self.allocations}

    def of_batch(self, batchref: str) -> Allocation | None:
        return next((allocation for allocation in self.allocations if allocation.batchref == batchref), None)

    def promise(self, batchref: str, qty: int, version: int) -> PlacedLine:
        """More of a batch of which something is promised keeps its age; a batch that the line has keeps its place."""
        there = self.of_batch(batchref) if self.allocations else None
        if there and there.promised:
            return self._with(there, promised=qty)
        new = Allocation(
            sku=self.sku,
            version=version,
            orderid=self.orderid,
            lineid=self.lineid,
            promised=qty,
            batchref=batchref,
            dispatched=there.dispatched if there else 0,
            priority=self.terms.priority,
            needed_by=self.terms.needed_by,
        )
        kept = tuple(new if one is there else one for one in self.allocations) if there else (*self.allocations, new)
        return replace(self, allocations=kept)

    def wait(self, qty: int) -> PlacedLine:
        """For so much more, or less."""
        return replace(self, waiting=self.waiting + qty)

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
        now = replace(there, promised=there.promised + promised, dispatched=there.dispatched + dispatched)
        kept = (now if one is there else one for one in self.allocations)
        return replace(self, allocations=tuple(one for one in kept if one.promised or one.dispatched))


class StoredLines(Protocol):
    """Lines of earlier transactions. A line's key is unique across SKUs."""

    def read_line(self, key: LineKey) -> PlacedLine | None: ...

    def read_lines(self, keys: Sequence[LineKey]) -> None:
        """At once, so that they are there when they are asked for."""
        ...

    def read_lines_of(self, orderid: str) -> list[PlacedLine]: ...

    def is_cancelled(self, orderid: str) -> bool: ...

    def first_to_break(self, batch: Batch) -> Iterator[Allocation]:
        """What is promised from one batch, of the lowest priority and the newest first."""
        ...

    def promised_later(self, batch: Batch) -> Iterator[Allocation]:
        """What is promised from batches of the SKU that come after this one, as far as it fits the room that it has, in
        the reverse of the order in which it is broken."""
        ...

    def backorders(self, batch: Batch, day: date | None, changed: Container[LineKey]) -> Iterator[PlacedLine]:
        """Lines that wait and may be served from this batch, in their turn, as far as they fit the room that it has by
        then. `day` is when its goods are there; None: now. Those that are `changed` may be left out."""
        ...


@dataclass
class Lines:
    """All lines by their key. Without a `stored` all are in memory."""

    stored: StoredLines | None = None
    changed: dict[LineKey, PlacedLine] = field(default_factory=dict)
    """Since they were stored."""
    cancelled: set[str] = field(default_factory=set)
    """Orders, since they were stored."""
    displaced: dict[LineKey, int] = field(default_factory=dict)
    """So much of a line lost its promise, broken or moved, and is not placed again yet. Meanwhile the line keeps its
    terms and its turn, although it may have nothing."""

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

    def first_to_break(self, batch: Batch) -> Iterator[Allocation]:
        """What is promised from one batch, of the lowest priority and the newest first."""
        in_memory = (line.of_batch(batch.reference) for line in self.changed.values())
        ours = sorted((one for one in in_memory if one and one.promised), key=_loses)
        stored = self.stored.first_to_break(batch) if self.stored else ()
        return heapq.merge(ours, (one for one in stored if one.line_key not in self.changed), key=_loses)

    def promised_elsewhere(self, batch: Batch) -> Iterator[Allocation]:
        """What is promised from other batches of its SKU, in the reverse of the order in which it is broken; of what
        was stored, only what may move to this one."""
        lines = (line for line in self.changed.values() if line.sku == batch.sku)
        promised = (one for line in lines for one in line.promises if one.batchref != batch.reference)
        ours = sorted(promised, key=_keeps)
        stored = self.stored.promised_later(batch) if self.stored else ()
        return heapq.merge(ours, (one for one in stored if one.line_key not in self.changed), key=_keeps)

    def backorders(self, batch: Batch, day: date | None) -> Iterator[PlacedLine]:
        """Lines that wait for this SKU, in their turn; of those that were stored, who may be served from the batch."""
        waiting = (line for line in self.changed.values() if line.waiting and line.sku == batch.sku)
        ours = sorted(waiting, key=attrgetter("turn"))
        stored = self.stored.backorders(batch, day, self.changed) if self.stored else ()
        return heapq.merge(ours, (one for one in stored if one.key not in self.changed), key=attrgetter("turn"))

    def has_displaced(self, sku: str) -> bool:
        return any(self[key].sku == sku for key in self.displaced)

    def prefetch(self, keys: Sequence[LineKey]) -> None:
        if self.stored:
            self.stored.read_lines(keys)

    def is_cancelled(self, orderid: str) -> bool:
        return orderid in self.cancelled or bool(self.stored and self.stored.is_cancelled(orderid))

    def dispatch(self, event: Dispatched) -> None:
        line = self[event.orderid, event.lineid].dispatch(event.batchref, event.qty)
        self.changed[line.key] = line

    def take_back(self, event: Returned) -> None:
        line = self[event.orderid, event.lineid].take_back(event.batchref, event.qty)
        self.changed[line.key] = line

    def placed_again(self, event: Allocated | Backordered | OutOfStock) -> None:
        """So much less of the line is displaced, wherever it went."""
        key = event.orderid, event.lineid
        left = self.displaced.pop(key, 0) - event.qty
        if left > 0:
            self.displaced[key] = left

    # Each of these returns the change in the number of lines that wait: -1, 0 or 1.

    def promise(self, event: Allocated, version: int) -> int:
        before, line = self._placed(event, version if event.waits else 0)
        now = line.promise(event.batchref, event.qty, version)
        if self.displaced:
            self.placed_again(event)
        return self._set(before, now.wait(-event.qty) if event.waited else now)

    def wait(self, event: Backordered) -> int:
        before, line = self._placed(event, event.since)
        self.placed_again(event)
        return self._set(before, line.wait(event.qty))

    def give_back(self, event: Deallocated | LineReleased) -> int:
        """A line that has nothing any more is known all the same, since its order may be cancelled."""
        line = self[event.orderid, event.lineid]
        if event.batchref is None:
            return self._set(line, line.wait(-event.qty))
        if isinstance(event, Deallocated) or event.why == "moved":
            self.displaced[line.key] = self.displaced.get(line.key, 0) + event.qty
        return self._set(line, line.give_back(event.batchref, event.qty))

    def _placed(self, event: Allocated | Backordered, since: int) -> tuple[PlacedLine | None, PlacedLine]:
        """The line as it was, and as it is before it gets more: begun anew, when nothing is left of it."""
        key = event.orderid, event.lineid
        before = self.get(key)
        if before and before.sku == event.sku and (before.has_pieces or before.returned or key in self.displaced):
            return before, before
        return before, PlacedLine(event.orderid, event.lineid, event.sku, terms=LineTerms.of(event), since=since)

    def _set(self, before: PlacedLine | None, now: PlacedLine) -> int:
        self.changed[now.key] = now
        return bool(now.waiting) - bool(before and before.waiting)


def _loses(allocation: Allocation) -> tuple[int, int]:
    return allocation.priority, -allocation.version


def _keeps(allocation: Allocation) -> tuple[int, int]:
    return -allocation.priority, allocation.version
