"""The aggregate: what is known of one SKU, and the one way to change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from allocation.domain.batches import Batch, Batches
from allocation.domain.events import (
    Allocated,
    BatchCreated,
    BatchQuantityChanged,
    Deallocated,
    Event,
    OutOfStock,
    ShortagesReported,
)
from allocation.domain.lines import Allocation, Allocations, OrderLine


class Product:
    """One SKU: the smallest thing whose allocations must stay consistent.

    A product changes in one way only: `record` applies an event and remembers it. So its version is counted, never
    set. The rules are functions of a product (`allocation.domain.allocating`, `receiving`): they decide, and refuse
    before anything has changed; applying never fails.

    Products of one unit of work share `batches` and `allocations`, since references and lines are unique across SKUs.
    """

    def __init__(
        self,
        sku: str,
        version_number: int = 0,
        batches: Batches | None = None,
        allocations: Allocations | None = None,
        on_event: Callable[[Product, Event], object] | None = None,
    ) -> None:
        self.sku = sku
        self.version_number = version_number
        self.batches = Batches() if batches is None else batches
        self.allocations = Allocations() if allocations is None else allocations
        self.events: list[Event] = []
        self._on_event = on_event

    @classmethod
    def replay(cls, sku: str, history: Iterable[Event]) -> Product:
        """The product as its whole history left it."""
        product = cls(sku)
        for event in history:
            product.apply(event)
        return product

    def record(self, event: Event) -> None:
        self.apply(event)
        self.events.append(event)
        if self._on_event:
            self._on_event(self, event)

    def apply(self, event: Event) -> None:
        """Take in the next event of its history."""
        self.version_number += 1
        match event:
            case BatchCreated():
                self.batches.add(Batch.created(event, added=self.version_number))
            case BatchQuantityChanged():
                self.batches[event.ref].purchased_quantity = event.qty
            case Allocated():
                self.batches[event.batchref].allocated_quantity += event.qty
                self.allocations.add(Allocation(OrderLine.of(event), event.batchref, self.version_number))
            case Deallocated():
                self.batches[event.batchref].allocated_quantity -= event.qty
                self.allocations.remove((event.orderid, event.lineid))
            case OutOfStock() | ShortagesReported():
                pass
            case _:
                assert_never(event)

    def __eq__(self, other: object) -> bool:
        """Whether two products in memory are in the same state."""
        if not isinstance(other, Product):
            return NotImplemented
        return self._state == other._state

    __hash__ = None  # type: ignore[assignment]  # a product changes

    @property
    def _state(self) -> tuple[object, ...]:
        return self.sku, self.version_number, self.batches.of(self.sku), list(self.allocations)
