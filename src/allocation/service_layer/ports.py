"""What the handlers need of the world. Adapters and the tests' fakes have these shapes; nothing inherits from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from operator import attrgetter
from typing import Protocol

from allocation.domain.documents import DocumentKey
from allocation.domain.events import Event
from allocation.domain.holds import HoldKey
from allocation.domain.lines import LineKey, PlacedLine
from allocation.domain.product import Product
from messaging import unit_of_work
from messaging.envelope import Delivery


@dataclass(frozen=True, slots=True)
class Lookups:
    """What is to be read of the database at once: products by SKU, batches by reference, lines, whole orders,
    documents and holds by their keys."""

    skus: Sequence[str] = ()
    batchrefs: Sequence[str] = ()
    lines: Sequence[LineKey] = ()
    orders: Sequence[str] = ()
    documents: Sequence[DocumentKey] = ()
    holds: Sequence[HoldKey] = ()

    @property
    def changed(self) -> Lookups:
        """The products that will be written: by their SKUs, or where those are not known by batches, lines, orders."""
        return Lookups(skus=self.skus) if self.skus else replace(self, documents=(), holds=())

    @classmethod
    def of_all(cls, several: Sequence[Lookups]) -> Lookups:
        return cls(*(list(chain.from_iterable(parts)) for parts in zip(*map(_parts_of, several), strict=True)))


_parts_of = attrgetter(*(field.name for field in fields(Lookups)))


class Products(Protocol):
    """The products of one unit of work: each is loaded once, and what it records is saved with the unit of work."""

    def get(self, sku: str) -> Product:
        """The product; one that was never purchased has no history."""
        ...

    def get_by_batchref(self, batchref: str) -> Product:
        """The product that the batch belongs to. Raises UnknownBatch."""
        ...

    def line(self, orderid: str, lineid: str) -> PlacedLine:
        """Raises UnknownLine for one that was never promised anything, nor waited."""
        ...

    def lines_of(self, orderid: str) -> list[PlacedLine]:
        """All of an order that were ever promised anything, or waited."""
        ...


class AllocationsView(Protocol):
    """The read model behind `GET /allocations/<orderid>`."""

    def show(self, key: LineKey, line: PlacedLine | None) -> None:
        """What the line has of each batch now, promised or dispatched."""
        ...


class UnitOfWork(unit_of_work.UnitOfWork, Protocol):
    @property
    def products(self) -> Products: ...

    @property
    def allocations_view(self) -> AllocationsView: ...


@dataclass(frozen=True, slots=True)
class Mail:
    """One that is sent again has the same `message_id`, by which the repeat is known."""

    message_id: str
    correlation_id: str
    to: str
    subject: str
    body: str


class Notifications(Protocol):
    def send(self, mail: Mail) -> None:
        """Raises Unavailable."""
        ...


class Publisher(Protocol):
    def publish(self, deliveries: Sequence[Delivery[Event]]) -> Mapping[str, Exception]:
        """Publish what has happened, the events of each SKU together and in order.

        Returns the SKUs of which nothing was published, and why: Unavailable, or ClaimLost when another has published
        meanwhile. Raises Unavailable for all.
        """
        ...
