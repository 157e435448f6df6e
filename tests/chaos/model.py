"""The rules of allocation once more, in other words than the service's: one product, replayed from its told events.

It decides nothing. It says of each event whether it could rightly happen then, and keeps what must be true after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.history import Told, Violation

Key = tuple[str, str]


@dataclass(slots=True)
class Stock:
    """A batch."""

    initial: int
    holds: int
    eta: str | None
    added: int

    @property
    def rank(self) -> tuple[bool, str, int]:
        return self.eta is not None, self.eta or "", self.added


@dataclass(frozen=True, slots=True)
class Promise:
    key: Key
    qty: int
    batch: str
    version: int


@dataclass(slots=True)
class Model:
    sku: str
    version: int = 0
    stock: dict[str, Stock] = field(default_factory=dict)
    promises: dict[Key, Promise] = field(default_factory=dict)
    outcomes: list[Told] = field(default_factory=list)
    """Allocations and out-of-stocks that somebody asked for: not those that follow from a quantity change."""
    _due: deque[tuple[str, Key]] = field(default_factory=deque)

    def take(self, event: Told) -> Iterator[Violation]:
        self.version = event.version
        following = self._follows(event)
        if following is None:
            yield self._wrong("reallocation", event, f"expected next: {self._due[0][0]} {self._due[0][1]}")
            self._due.clear()
        match event.kind:
            case "batch_created":
                yield from self._create(event)
            case "batch_quantity_changed":
                yield from self._change(event)
            case "allocated":
                yield from self._allocate(event)
            case "deallocated":
                yield from self._deallocate(event, asked_for=following is True)
            case "out_of_stock":
                if best := self._best(event.data["qty"]):
                    yield self._wrong("wrong batch", event, f"{best} had room")
            case _:
                yield self._wrong("unknown event", event, "no such kind")
        if event.kind in ("allocated", "out_of_stock") and not following:
            self.outcomes.append(event)
        if not any(kind == "deallocated" for kind, _ in self._due):
            yield from self._oversold(event)

    def end(self) -> Iterator[Violation]:
        """What should still have come."""
        for kind, key in self._due:
            yield Violation("reallocation", f"{self.sku} ends at {self.version}, before {key} is {kind}")

    def allocated(self, batch: str) -> int:
        return sum(promise.qty for promise in self.promises.values() if promise.batch == batch)

    def _follows(self, event: Told) -> bool | None:
        """True: it is what a quantity change made due; False: nothing was due; None: something else was."""
        if not self._due:
            return False
        kind, key = self._due[0]
        right_kind = event.kind in ("allocated", "out_of_stock") if kind == "placed" else event.kind == kind
        if not right_kind or key != (event.data["orderid"], event.data["lineid"]):
            return None
        self._due.popleft()
        return True

    def _create(self, event: Told) -> Iterator[Violation]:
        ref, qty = event.data["ref"], event.data["qty"]
        if ref in self.stock:
            yield self._wrong("applied twice", event, f"{ref} was created before")
            return
        self.stock[ref] = Stock(qty, qty, event.data["eta"], event.version)

    def _change(self, event: Told) -> Iterator[Violation]:
        ref, qty = event.data["ref"], event.data["qty"]
        if ref not in self.stock:
            yield self._wrong("unknown batch", event, ref)
            return
        self.stock[ref].holds = qty
        too_much = self.allocated(ref) - qty
        newest = sorted((p for p in self.promises.values() if p.batch == ref), key=lambda p: -p.version)
        broken: list[Key] = []
        for promise in newest:
            if too_much <= 0:
                break
            too_much -= promise.qty
            broken.insert(0, promise.key)
        self._due.extend(("deallocated", key) for key in broken)
        self._due.extend(("placed", key) for key in broken)

    def _allocate(self, event: Told) -> Iterator[Violation]:
        key, qty, ref = (event.data["orderid"], event.data["lineid"]), event.data["qty"], event.data["batchref"]
        if key in self.promises:
            yield self._wrong("applied twice", event, f"{key} was promised at version {self.promises[key].version}")
        best = self._best(qty)
        if best != ref:
            yield self._wrong("wrong batch", event, f"{key} should be at {best}")
        self.promises[key] = Promise(key, qty, ref, event.version)

    def _deallocate(self, event: Told, *, asked_for: bool) -> Iterator[Violation]:
        key, ref = (event.data["orderid"], event.data["lineid"]), event.data["batchref"]
        promise = self.promises.pop(key, None)
        if promise is None or (promise.qty, promise.batch) != (event.data["qty"], ref):
            yield self._wrong("reallocation", event, f"{key} had {promise}")
        elif not asked_for:
            yield self._wrong("reallocation", event, f"{key} was broken for no reason")

    def _oversold(self, event: Told) -> Iterator[Violation]:
        for ref, stock in self.stock.items():
            if (allocated := self.allocated(ref)) > stock.holds:
                yield self._wrong("oversold", event, f"{ref} holds {stock.holds}, and {allocated} are promised")

    def _best(self, qty: int) -> str | None:
        roomy = [(stock.rank, ref) for ref, stock in self.stock.items() if stock.holds - self.allocated(ref) >= qty]
        return min(roomy)[1] if roomy else None

    def _wrong(self, kind: str, event: Told, what: str) -> Violation:
        return Violation(kind, f"{self.sku} version {event.version}, {event.kind}: {what}")
