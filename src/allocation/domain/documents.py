"""Documents, by whose numbers a warehouse knows what it has done: each counts once, however often it is sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from allocation.domain.commands import CountBatch, Quarantine, ReceiveBatch, ReleaseQuarantine, ReturnLine, WriteOff
from allocation.domain.events import (
    BatchCounted,
    BatchReceived,
    Dispatched,
    Event,
    Quarantined,
    QuarantineReleased,
    Returned,
    WrittenOff,
)

DocumentKind: TypeAlias = Literal[
    "receipt", "count", "quarantine", "quarantine_release", "write_off", "dispatch", "return"
]

DocumentKey: TypeAlias = tuple[str, str, DocumentKind, str]
"""The batch or the order that it is about, the line of that order, its kind and its number."""


@dataclass(frozen=True, slots=True)
class DocumentedEvent:
    """What a document led to: an event, at this version of its SKU."""

    version: int
    event: Event


class StoredDocuments(Protocol):
    def document(self, key: DocumentKey) -> Sequence[DocumentedEvent]:
        """What it led to in earlier transactions, in order."""
        ...


@dataclass
class Documents:
    """Without a `stored` all are in memory."""

    stored: StoredDocuments | None = None
    new: defaultdict[DocumentKey, list[DocumentedEvent]] = field(default_factory=lambda: defaultdict(list))

    def get(self, key: DocumentKey) -> list[DocumentedEvent]:
        """Nothing for one that was never seen."""
        return [*(self.stored.document(key) if self.stored else ()), *self.new.get(key, ())]

    def note(self, event: Event, version: int) -> None:
        if key := key_of(event):
            self.new[key].append(DocumentedEvent(version, event))


def receipt(of: ReceiveBatch | BatchReceived) -> DocumentKey:
    return of.ref, "", "receipt", of.receipt_id


def count(of: CountBatch | BatchCounted) -> DocumentKey:
    return of.ref, "", "count", of.count_id


def quarantine(of: Quarantine | Quarantined) -> DocumentKey:
    return of.ref, "", "quarantine", of.document


def quarantine_release(of: ReleaseQuarantine | QuarantineReleased) -> DocumentKey:
    return of.ref, "", "quarantine_release", of.document


def write_off(of: WriteOff | WrittenOff) -> DocumentKey:
    return of.ref, "", "write_off", of.document


def dispatch(orderid: str, lineid: str, dispatch_id: str) -> DocumentKey:
    return orderid, lineid, "dispatch", dispatch_id


def return_of(of: ReturnLine | Returned) -> DocumentKey:
    return of.orderid, of.lineid, "return", of.return_id


_KEYS: dict[type, Callable[[Any], DocumentKey | None]] = {
    BatchReceived: receipt,
    BatchCounted: count,
    Quarantined: lambda event: None if event.came_with else quarantine(event),
    QuarantineReleased: quarantine_release,
    WrittenOff: write_off,
    Dispatched: lambda event: dispatch(event.orderid, event.lineid, event.dispatch_id),
    Returned: return_of,
}


def key_of(event: Event) -> DocumentKey | None:
    """The document that an event is about, if there is one."""
    key = _KEYS.get(type(event))
    return key(event) if key else None
