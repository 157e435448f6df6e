"""Holds: stock that is reserved for nobody's line yet, until an instant."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeAlias

from allocation.domain.batches import Batch
from allocation.domain.events import HoldEnded, HoldExtended, HoldPlaced

HoldKey: TypeAlias = tuple[str, str]
"""The SKU, and the id that whoever holds has chosen: a cart holds each of its SKUs under one id."""


@dataclass(frozen=True, slots=True)
class Hold:
    """So much of one batch is held `until` that instant, at which it is free. `version` is that of its product when it
    was placed: the higher, the newer."""

    hold_id: str
    sku: str
    qty: int
    batchref: str
    until: datetime
    version: int

    @property
    def key(self) -> HoldKey:
        return self.sku, self.hold_id


class StoredHolds(Protocol):
    """Holds of earlier transactions."""

    def read_hold(self, key: HoldKey) -> Hold | None: ...

    def holds_to_break(self, batch: Batch) -> Iterator[Hold]:
        """Those of one batch, the newest first."""
        ...


@dataclass
class Holds:
    """Holds by their key; one that has ended is not known any more. Without a `stored` all are in memory."""

    stored: StoredHolds | None = None
    changed: dict[HoldKey, Hold | None] = field(default_factory=dict)
    """Since they were stored; None: it has ended."""

    def get(self, key: HoldKey) -> Hold | None:
        if key in self.changed or not self.stored:
            return self.changed.get(key)
        return self.stored.read_hold(key)

    def of_sku(self, sku: str) -> dict[HoldKey, Hold]:
        """Those in memory."""
        return {key: hold for key, hold in self.changed.items() if hold and hold.sku == sku}

    def first_to_break(self, batch: Batch) -> Iterator[Hold]:
        """Those of one batch, the newest first."""
        in_memory = (hold for hold in self.changed.values() if hold and hold.batchref == batch.reference)
        ours = sorted(in_memory, key=_newest_first)
        stored = self.stored.holds_to_break(batch) if self.stored else ()
        return heapq.merge(ours, (one for one in stored if one.key not in self.changed), key=_newest_first)

    def place(self, event: HoldPlaced, version: int) -> None:
        hold = Hold(event.hold_id, event.sku, event.qty, event.batchref, event.until, version)
        self.changed[hold.key] = hold

    def extend(self, event: HoldExtended) -> None:
        key = event.sku, event.hold_id
        hold = self.get(key)
        assert hold, "only what is held is extended"
        self.changed[key] = replace(hold, until=event.until)

    def end(self, event: HoldEnded) -> None:
        self.changed[event.sku, event.hold_id] = None


def _newest_first(hold: Hold) -> int:
    return -hold.version
