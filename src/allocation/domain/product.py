"""The aggregate: what is known of one SKU, and the one way to change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import assert_never

from allocation.domain.batches import Batch, Batches
from allocation.domain.documents import Documents
from allocation.domain.events import (
    Allocated,
    Backordered,
    BatchCounted,
    BatchCreated,
    BatchQuantityChanged,
    BatchReceived,
    Deallocated,
    Dispatched,
    EtaChanged,
    Event,
    LineReleased,
    OrderCancelled,
    OutOfStock,
    Quarantined,
    QuarantineReleased,
    Returned,
    ShortagesReported,
    WrittenOff,
)
from allocation.domain.lines import Lines


class Product:
    """One SKU: the smallest thing whose allocations must stay consistent.

    A product changes in one way only: `record` applies an event and remembers it. So its version is counted, never
    set. The rules are functions of a product (`allocation.domain.allocating`, `receiving` and others): they decide, and
    refuse before anything has changed; applying never fails.

    Products of one unit of work share `batches`, `lines` and `documents`, since references, lines and numbers are
    unique across SKUs. `waiting` of its lines are backordered. `today` asks for the day on which it is decided.
    """

    def __init__(
        self,
        sku: str,
        version_number: int = 0,
        batches: Batches | None = None,
        lines: Lines | None = None,
        documents: Documents | None = None,
        *,
        waiting: int = 0,
        today: Callable[[], date] = lambda: date.min,
        on_event: Callable[[Product, Event], object] | None = None,
    ) -> None:
        self.sku = sku
        self.version_number = version_number
        self.waiting = waiting
        self.batches = Batches() if batches is None else batches
        self.lines = Lines() if lines is None else lines
        self.documents = Documents() if documents is None else documents
        self.today = today
        self.events: list[Event] = []
        self.roomier: dict[str, None] = {}
        """Batches that have more to give since those who wait were served, or give it sooner."""
        self._on_event = on_event

    @classmethod
    def replay(cls, sku: str, history: Iterable[Event]) -> Product:
        """The product as its whole history left it."""
        product = cls(sku)
        for event in history:
            product.apply(event)
        product.roomier.clear()
        return product

    def record(self, event: Event) -> None:
        self.apply(event)
        self.events.append(event)
        if self._on_event:
            self._on_event(self, event)

    def is_expired(self, batch: Batch) -> bool:
        """It can be sold on its last day, and not after it."""
        return batch.expires is not None and batch.expires < self.today()

    def apply(self, event: Event) -> None:  # noqa: PLR0912 - an arm for each kind
        """Take in the next event of its history."""
        self.version_number += 1
        match event:
            case Allocated():
                self._move(event.batchref, taken=event.qty)
                self.waiting += self.lines.promise(event, self.version_number)
            case Backordered():
                self.waiting += self.lines.wait(event)
            case BatchCreated():
                self.batches.add(Batch.created(event, added=self.version_number))
                self.roomier[event.ref] = None
            case BatchQuantityChanged() | BatchCounted():
                self.batches[event.ref].purchased_quantity = event.qty
                self.roomier[event.ref] = None
            case BatchReceived():
                self.batches.receive(event, added=self.version_number)
                self.roomier[event.ref] = None
            case EtaChanged():
                self.batches.expect(event)
                self.roomier[event.ref] = None
            case Quarantined():
                self._move(event.ref, quarantined=event.qty, taken=event.qty)
            case QuarantineReleased():
                self._move(event.ref, quarantined=-event.qty, taken=-event.qty)
            case WrittenOff():
                self._move(event.ref, quarantined=-event.qty, taken=-event.qty, purchased=-event.qty)
            case Deallocated() | LineReleased():
                if event.batchref is not None:
                    self._move(event.batchref, taken=-event.qty)
                self.waiting += self.lines.give_back(event)
            case Dispatched():
                self._move(event.batchref, dispatched=event.qty)
                self.lines.dispatch(event)
            case Returned():
                self._move(event.batchref, dispatched=-event.qty, taken=-event.qty)
                self.lines.take_back(event)
            case OrderCancelled():
                self.lines.cancelled.add(event.orderid)
            case OutOfStock():
                self.lines.no_longer_broken(event)
            case ShortagesReported():
                pass
            case _:
                assert_never(event)
        self.documents.note(event, self.version_number)

    def _move(self, ref: str, *, purchased: int = 0, taken: int = 0, dispatched: int = 0, quarantined: int = 0) -> None:
        batch = self.batches[ref]
        batch.purchased_quantity += purchased
        batch.taken_quantity += taken
        batch.dispatched_quantity += dispatched
        batch.quarantined_quantity += quarantined
        if purchased > taken:
            self.roomier[ref] = None

    def __eq__(self, other: object) -> bool:
        """Whether two products in memory are in the same state."""
        if not isinstance(other, Product):
            return NotImplemented
        return self._state == other._state

    __hash__ = None  # type: ignore[assignment]  # a product changes

    @property
    def _state(self) -> tuple[object, ...]:
        return self.sku, self.version_number, self.waiting, self.batches.of(self.sku), self.lines, self.documents
