"""Documents, by whose numbers a warehouse knows what it has done: each counts once, however often it is sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

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

Kind: TypeAlias = Literal["receipt", "count", "quarantine", "quarantine_release", "write_off", "dispatch", "return"]

DocumentKey: TypeAlias = tuple[str, str, Kind, str]
"""The batch or the order that it is about, the line of that order, its kind and its number."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a document led to: an event, at this version of its SKU."""

    version: int
    event: Event


class StoredDocuments(Protocol):
    def document(self, key: DocumentKey) -> Sequence[Entry]:
        """What it led to in earlier transactions, in order."""
        ...


@dataclass
class Documents:
    """Without a `stored` all are in memory."""

    stored: StoredDocuments | None = None
    new: defaultdict[DocumentKey, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    def get(self, key: DocumentKey) -> list[Entry]:
        """Nothing for one that was never seen."""
        return [*(self.stored.document(key) if self.stored else ()), *self.new.get(key, ())]

    def note(self, event: Event, version: int) -> None:
        if key := key_of(event):
            self.new[key].append(Entry(version, event))


_KEYS: dict[type, Callable[[Any], DocumentKey | None]] = {
    BatchReceived: lambda event: (event.ref, "", "receipt", event.receipt_id),
    BatchCounted: lambda event: (event.ref, "", "count", event.count_id),
    Quarantined: lambda event: None if event.came_with else (event.ref, "", "quarantine", event.document),
    QuarantineReleased: lambda event: (event.ref, "", "quarantine_release", event.document),
    WrittenOff: lambda event: (event.ref, "", "write_off", event.document),
    Dispatched: lambda event: (event.orderid, event.lineid, "dispatch", event.dispatch_id),
    Returned: lambda event: (event.orderid, event.lineid, "return", event.return_id),
}


def key_of(event: Event) -> DocumentKey | None:
    """The document that an event is about, if there is one."""
    key = _KEYS.get(type(event))
    return key(event) if key else None
