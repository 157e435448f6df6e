"""What the handlers need of the world. Adapters and the tests' fakes have these shapes; nothing inherits from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from allocation.domain.events import Allocated, Deallocated, Event
from allocation.domain.lines import LineKey
from allocation.domain.product import Product
from messaging import unit_of_work
from messaging.envelope import Delivery


@dataclass(frozen=True, slots=True)
class Lookups:
    """What is to be read of the database at once: products by SKU, batches by reference, allocations by line."""

    skus: Sequence[str] = ()
    batchrefs: Sequence[str] = ()
    lines: Sequence[LineKey] = ()

    @property
    def changed(self) -> Lookups:
        """The products that will be written: by their SKUs, or where those are not known by a batch."""
        return Lookups(skus=self.skus) if self.skus else Lookups(batchrefs=self.batchrefs)

    @classmethod
    def of_all(cls, several: Sequence[Lookups]) -> Lookups:
        return cls(
            [sku for one in several for sku in one.skus],
            [reference for one in several for reference in one.batchrefs],
            [key for one in several for key in one.lines],
        )


class Products(Protocol):
    """The products of one unit of work: each is loaded once, and what it records is saved with the unit of work."""

    def get(self, sku: str) -> Product:
        """The product; one that was never purchased has no history."""
        ...

    def get_by_batchref(self, batchref: str) -> Product:
        """The product that the batch belongs to. Raises UnknownBatch."""
        ...


class AllocationsView(Protocol):
    """The read model behind `GET /allocations/<orderid>`."""

    def add(self, event: Allocated) -> None: ...

    def remove(self, event: Deallocated) -> None: ...


class UnitOfWork(unit_of_work.UnitOfWork, Protocol):
    @property
    def products(self) -> Products: ...

    @property
    def allocations_view(self) -> AllocationsView: ...


class Notifications(Protocol):
    def send(self, *, message_id: str, correlation_id: str, to: str, subject: str, body: str) -> None:
        """Send a mail; the same id on a repeat. Raises Unavailable."""
        ...


class Publisher(Protocol):
    def publish(self, deliveries: Sequence[Delivery[Event]]) -> Mapping[str, Exception]:
        """Tell the world what has happened, the events of each SKU together and in order.

        Returns the SKUs of which nothing was told, and why: Unavailable, or ClaimLost when another has told of it
        meanwhile. Raises Unavailable for all.
        """
        ...
