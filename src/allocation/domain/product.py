"""The aggregate: what is known of one SKU, and the one way to change it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import assert_never

from allocation.domain.batches import Batch, Batches
from allocation.domain.documents import Documents
from allocation.domain.errors import InvalidSku
from allocation.domain.events import (
    Allocated,
    Backordered,
    BatchCounted,
    BatchCreated,
    BatchExpired,
    BatchOverdue,
    BatchQuantityChanged,
    BatchReceived,
    Deallocated,
    Dispatched,
    EtaChanged,
    Event,
    HoldEnded,
    HoldExtended,
    HoldPlaced,
    LineReleased,
    OrderCancelled,
    OutOfStock,
    Quarantined,
    QuarantineReleased,
    Returned,
    ShortagesReported,
    WrittenOff,
)
from allocation.domain.holds import Holds
from allocation.domain.lines import Lines
from allocation.domain.values import Revision


class Product:
    """One SKU: the smallest thing whose allocations must stay consistent.

    A product changes in one way only: `record` applies an event and remembers it. So its version is counted, never
    set. The rules are functions of a product (`allocation.domain.allocating`, `receiving` and others): they decide, and
    refuse before anything has changed; applying never fails.

    Products of one unit of work share `batches`, `lines`, `documents` and `holds`, since references, lines and numbers
    are unique across SKUs. `waiting` of its lines are backordered, and it has `hold_count` holds. `now` and `today` ask
    for the moment at which it is decided.
    """

    def __init__(
        self,
        sku: str,
        version_number: int = 0,
        batches: Batches | None = None,
        lines: Lines | None = None,
        documents: Documents | None = None,
        *,
        holds: Holds | None = None,
        waiting: int = 0,
        hold_count: int = 0,
        now: Callable[[], datetime] = lambda: datetime.min.replace(tzinfo=UTC),
        today: Callable[[], date] = lambda: date.min,
        on_event: Callable[[Product, int, Event], object] | None = None,
    ) -> None:
        self.sku = sku
        self.version_number = version_number
        self.waiting = waiting
        self.hold_count = hold_count
        self.batches = Batches() if batches is None else batches
        self.lines = Lines() if lines is None else lines
        self.documents = Documents() if documents is None else documents
        self.holds = Holds() if holds is None else holds
        self.now = now
        self.today = today
        self.events: list[Event] = []
        self._tentative: list[tuple[int, Event]] = []
        self._is_tentative = False
        self._stored_revisions: dict[str, Revision] = {}
        self.freed_batches: dict[str, None] = {}
        """Batches that have more to give, or sooner, since backorders were last served."""
        self._on_event = on_event

    @property
    def is_known(self) -> bool:
        """Whether any of it was ever purchased."""
        return self.version_number > 0

    def require_known(self) -> None:
        """Raises InvalidSku."""
        if not self.is_known:
            raise InvalidSku(self.sku)

    def record(self, event: Event) -> None:
        self.apply(event)
        self._tentative.append((self.version_number, event))
        if not self._is_tentative:
            self.keep_tentative()

    @contextmanager
    def tentatively(self) -> Iterator[None]:
        """Events recorded in this block take effect at once, but are kept only if another one follows: that a hold has
        run out need not be stored as long as nothing else is."""
        self._is_tentative = True
        try:
            yield
        finally:
            self._is_tentative = False

    def keep_tentative(self) -> None:
        self._stored_revisions.clear()
        for version, event in self._tentative:
            self.events.append(event)
            if self._on_event:
                self._on_event(self, version, event)
        self._tentative.clear()

    def note_revision(self, batch: Batch) -> None:
        """As it is stored, before a tentative event changes it."""
        self._stored_revisions.setdefault(batch.reference, batch.revision)

    def is_as_seen(self, batch: Batch, seen: Collection[Revision] | None) -> bool:
        """Whether one of these revisions is the batch's: as it is, or as it is stored, since a caller has seen no
        tentative event. None: the caller does not say, and any will do."""
        return seen is None or batch.revision in seen or self._stored_revisions.get(batch.reference) in seen

    def is_expired(self, batch: Batch) -> bool:
        """It can be sold on its last day, and not after it."""
        return batch.expires is not None and batch.expires < self.today()

    def apply(self, event: Event) -> None:  # noqa: PLR0912, PLR0915 - an arm for each kind
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
                self.freed_batches[event.ref] = None
            case BatchQuantityChanged() | BatchCounted():
                self.batches[event.ref].purchased_quantity = event.qty
                self.freed_batches[event.ref] = None
            case BatchReceived():
                self.batches.receive(event, added=self.version_number)
                self.freed_batches[event.ref] = None
            case BatchOverdue():
                self.batches[event.ref].overdue = True
            case BatchExpired():
                self.batches[event.ref].expired = True
                self._move(event.ref, quarantined=event.qty, taken=event.qty)
            case EtaChanged():
                self.batches.expect(event)
                self.freed_batches[event.ref] = None
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
            case HoldPlaced():
                self._move(event.batchref, held=event.qty, taken=event.qty)
                self.holds.place(event, self.version_number)
                self.hold_count += 1
            case HoldExtended():
                self.holds.extend(event)
            case HoldEnded():
                self._move(event.batchref, held=-event.qty, taken=-event.qty)
                self.holds.end(event)
                self.hold_count -= 1
            case OutOfStock():
                self.lines.placed_again(event)
            case ShortagesReported():
                pass
            case _:
                assert_never(event)
        self.documents.note(event, self.version_number)

    def _move(
        self,
        ref: str,
        *,
        purchased: int = 0,
        taken: int = 0,
        held: int = 0,
        dispatched: int = 0,
        quarantined: int = 0,
    ) -> None:
        batch = self.batches[ref]
        batch.purchased_quantity += purchased
        batch.taken_quantity += taken
        batch.held_quantity += held
        batch.dispatched_quantity += dispatched
        batch.quarantined_quantity += quarantined
        if purchased > taken:
            self.freed_batches[ref] = None
