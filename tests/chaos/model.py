"""The rules of allocation once more, in other words than the service's: one product, replayed from its told events.

It decides nothing. It says of each event whether it could rightly happen then, and keeps what must be true after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.chaos.history import Told, Violation

Key = tuple[str, str]


@dataclass(slots=True)
class Stock:
    """A batch."""

    initial: int
    initial_eta: str | None
    holds: int
    eta: str | None
    added: int
    dispatched: int = 0
    quarantined: int = 0

    @property
    def rank(self) -> tuple[bool, str, int]:
        return self.eta is not None, self.eta or "", self.added


@dataclass(frozen=True, slots=True)
class Promise:
    """What a line has of a batch: so much is promised, and so much more has left."""

    key: Key
    qty: int
    batch: str
    version: int
    dispatched: int = 0


@dataclass(slots=True)
class Model:
    sku: str
    version: int = 0
    stock: dict[str, Stock] = field(default_factory=dict)
    promises: dict[tuple[Key, str], Promise] = field(default_factory=dict)
    returned: dict[Key, int] = field(default_factory=dict)
    """All lines that are known, with what came back of them."""
    cancelled: set[str] = field(default_factory=set)
    waiting: dict[Key, int] = field(default_factory=dict)
    """Lines that wait, each as a whole."""
    since: dict[Key, int] = field(default_factory=dict)
    """The turn of lines that may wait."""
    outcomes: list[Told] = field(default_factory=list)
    """What became of lines that somebody asked for: not what follows from a batch that falls short, or gets room."""
    _due: deque[tuple[str, Key]] = field(default_factory=deque)

    def take(self, event: Told) -> Iterator[Violation]:
        self.version = event.version
        yield from self._nobody_waits_who_fits(event)
        following = self._follows(event)
        if following is None:
            yield self._wrong("reallocation", event, f"expected next: {self._due[0][0]} {self._due[0][1]}")
            self._due.clear()
        if event.data.get("ref", event.data.get("batchref", "")) not in {"", None, *self.stock} | _born(event):
            yield self._wrong("unknown batch", event, str(event.data))
            return
        yield from self._apply(event, is_due=following is True)
        if event.kind in ("allocated", "backordered", "out_of_stock") and not (following or event.data.get("waited")):
            self.outcomes.append(event)
        if not any(kind in ("deallocated", "quarantined") for kind, _ in self._due):
            yield from self._oversold()

    def committed(self) -> Iterator[Violation]:
        """What must be true whenever others can see it."""
        for kind, key in self._due:
            yield Violation("reallocation", f"{self.sku} was committed at {self.version}, before {key} is {kind}")
        self._due.clear()
        if fits := self._who_fits():
            yield Violation("queue", f"{self.sku} was committed at {self.version}, and {fits} waits")
        yield from self._oversold()

    def promised(self, key: Key) -> int:
        return sum(promise.qty for promise in self.of(key))

    def of(self, key: Key) -> list[Promise]:
        return [promise for promise in self.promises.values() if promise.key == key]

    def allocated(self, batch: str) -> int:
        """What is taken of it: promised, gone, or not for sale."""
        parts = self.stock[batch].dispatched + self.stock[batch].quarantined
        return parts + sum(promise.qty for promise in self.promises.values() if promise.batch == batch)

    def _follows(self, event: Told) -> bool | None:
        """True: it is what another event made due; False: nothing was due; None: something else was."""
        if not self._due:
            return False
        kind, key = self._due[0]
        placed = ("allocated", "backordered", "out_of_stock")
        right_kind = event.kind in placed if kind == "placed" else event.kind == kind
        if not right_kind or key != _about(event):
            return None
        self._due.popleft()
        return True

    def _apply(self, event: Told, *, is_due: bool) -> Iterator[Violation]:  # noqa: PLR0912 - an arm for each kind
        data = event.data
        match event.kind:
            case "batch_created":
                yield from self._create(event)
            case "batch_quantity_changed":
                self._set(data["ref"], data["qty"])
            case "batch_received":
                yield from self._receive(event)
            case "batch_counted":
                yield from self._count(event)
            case "quarantined":
                self.stock[data["ref"]].quarantined += data["qty"]
                self._set(data["ref"], self.stock[data["ref"]].holds)
            case "quarantine_released":
                yield from self._for_sale_again(event)
            case "allocated":
                yield from self._allocate(event, is_due=is_due)
            case "backordered":
                yield from self._wait(event, is_due=is_due)
            case "deallocated":
                yield from self._give_back(event, is_due=is_due)
            case "line_released":
                yield from self._give_back(event, is_due=is_due or data["why"] == "released")
            case "order_cancelled":
                yield from self._cancel(event)
            case "dispatched":
                yield from self._dispatch(event)
            case "returned":
                yield from self._return(event)
            case "out_of_stock":
                if best := self._best(data["qty"]):
                    yield self._wrong("wrong batch", event, f"{best} had room")
            case _:
                yield self._wrong("unknown event", event, "no such kind")

    def _create(self, event: Told) -> Iterator[Violation]:
        ref, qty = event.data["ref"], event.data["qty"]
        if ref in self.stock:
            yield self._wrong("applied twice", event, f"{ref} was created before")
            return
        self.stock[ref] = Stock(qty, event.data["eta"], qty, event.data["eta"], event.version)

    def _receive(self, event: Told) -> Iterator[Violation]:
        ref, stock = event.data["ref"], self.stock[event.data["ref"]]
        expected = event.data["received"] + (stock.holds if stock.eta is None else 0)
        if event.data["qty"] != expected:
            yield self._wrong("wrong quantity", event, f"{ref} should hold {expected}")
        if stock.eta is not None:
            stock.eta, stock.added = None, event.version
        if event.data["damaged"]:
            stock.holds = event.data["qty"]
            self._due.append(("quarantined", ("", ref)))
        else:
            self._set(ref, event.data["qty"])

    def _count(self, event: Told) -> Iterator[Violation]:
        stock = self.stock[event.data["ref"]]
        expected = event.data["counted"] + stock.dispatched + stock.quarantined
        if stock.eta is not None or event.data["qty"] != expected:
            yield self._wrong("wrong quantity", event, f"it should hold {expected}, and was expected {stock.eta}")
        self._set(event.data["ref"], event.data["qty"])

    def _set(self, ref: str, qty: int) -> None:
        """What it holds; what it can't keep by that is due to be broken, the newest first, and to be placed again."""
        self.stock[ref].holds = qty
        too_much = self.allocated(ref) - qty
        newest = sorted((p for p in self.promises.values() if p.batch == ref and p.qty), key=lambda p: -p.version)
        broken: list[Key] = []
        for promise in newest:
            if too_much <= 0:
                break
            too_much -= promise.qty
            broken.insert(0, promise.key)
        self._due.extend(("deallocated", key) for key in broken)
        self._due.extend(("placed", key) for key in broken)

    def _for_sale_again(self, event: Told) -> Iterator[Violation]:
        stock = self.stock[event.data["ref"]]
        stock.quarantined -= event.data["qty"]
        if stock.quarantined < 0:
            yield self._wrong("wrong quantity", event, f"{stock.quarantined} are in quarantine now")

    def _allocate(self, event: Told, *, is_due: bool) -> Iterator[Violation]:
        key, qty, ref = _about(event), event.data["qty"], event.data["batchref"]
        if event.data.get("waited"):
            yield from self._serve(event)
        elif self.promised(key) or (not is_due and (self.of(key) or self.returned.get(key) or key in self.waiting)):
            yield self._wrong("applied twice", event, f"{key} had {self.of(key)}")
        elif event.data.get("waits") and not is_due:
            self.since[key] = event.version
        if key[0] in self.cancelled:
            yield self._wrong("cancelled", event, f"{key[0]} was cancelled")
        best = self._best(qty)
        if best != ref:
            yield self._wrong("wrong batch", event, f"{key} should be at {best}")
        dispatched = self.promises[key, ref].dispatched if (key, ref) in self.promises else 0
        self.promises[key, ref] = Promise(key, qty, ref, event.version, dispatched)
        self.returned.setdefault(key, 0)

    def _wait(self, event: Told, *, is_due: bool) -> Iterator[Violation]:
        key, qty = _about(event), event.data["qty"]
        if not is_due and (self.of(key) or self.returned.get(key) or key in self.waiting):
            yield self._wrong("applied twice", event, f"{key} had {self.of(key)}")
        if key[0] in self.cancelled:
            yield self._wrong("cancelled", event, f"{key[0]} was cancelled")
        if best := self._best(qty):
            yield self._wrong("wrong batch", event, f"{best} had room")
        since = self.since.get(key) if is_due else event.version
        if event.data["since"] != since:
            yield self._wrong("queue", event, f"{key} is known since {since}")
        self.since[key] = event.data["since"]
        self.waiting[key] = qty
        self.returned.setdefault(key, 0)

    def _serve(self, event: Told) -> Iterator[Violation]:
        """From the queue: who came first of those that fit."""
        key, ref = _about(event), event.data["batchref"]
        if self.waiting.get(key) != event.data["qty"]:
            yield self._wrong("queue", event, f"{key} waited for {self.waiting.get(key)}")
        room = self.stock[ref].holds - self.allocated(ref)
        for other in self._queue():
            if other == key:
                break
            if self.waiting[other] <= room:
                yield self._wrong("queue", event, f"{other} was before {key}, and {room} were in {ref}")
        self.waiting.pop(key, None)

    def _queue(self) -> list[Key]:
        return sorted(self.waiting, key=lambda key: self.since[key])

    def _who_fits(self) -> Key | None:
        return None if self._due else next((key for key in self._queue() if self._best(self.waiting[key])), None)

    def _nobody_waits_who_fits(self, event: Told) -> Iterator[Violation]:
        """Room that there is goes to those who wait before anything else happens; but a rest is there before what
        arrived of its batch."""
        comes_with_its_rest = event.kind == "batch_received" and event.data["rest"]
        if not (event.data.get("waited") or comes_with_its_rest) and (fits := self._who_fits()):
            yield self._wrong("queue", event, f"{fits} waits, and {self._best(self.waiting[fits])} has room")

    def _give_back(self, event: Told, *, is_due: bool) -> Iterator[Violation]:
        key, ref = _about(event), event.data["batchref"]
        if ref is None:
            if self.waiting.pop(key, None) != event.data["qty"]:
                yield self._wrong("queue", event, f"{key} did not wait for so many")
            return
        promise = self.promises.get((key, ref))
        if promise is None or promise.qty != event.data["qty"]:
            yield self._wrong("reallocation", event, f"{key} had {promise}")
        elif not is_due:
            yield self._wrong("reallocation", event, f"{key} was broken for no reason")
        if promise:
            self._keep(replace(promise, qty=0))

    def _cancel(self, event: Told) -> Iterator[Violation]:
        orderid = event.data["orderid"]
        if orderid in self.cancelled:
            yield self._wrong("applied twice", event, f"{orderid} was cancelled before")
        self.cancelled.add(orderid)
        keys = [*(one.key for one in self.promises.values() if one.qty), *self.waiting]
        self._due.extend(("line_released", key) for key in sorted(keys) if key[0] == orderid)

    def _dispatch(self, event: Told) -> Iterator[Violation]:
        key, qty, ref = _about(event), event.data["qty"], event.data["batchref"]
        promise = self.promises.get((key, ref))
        if promise is None or promise.qty < qty or self.stock[ref].eta is not None:
            yield self._wrong("dispatched", event, f"{key} had {promise} of {self.stock[ref]}")
            return
        self.stock[ref].dispatched += qty
        self._keep(replace(promise, qty=promise.qty - qty, dispatched=promise.dispatched + qty))

    def _return(self, event: Told) -> Iterator[Violation]:
        key, qty, ref = _about(event), event.data["qty"], event.data["batchref"]
        promise = self.promises.get((key, ref))
        if promise is None or promise.dispatched < qty:
            yield self._wrong("returned", event, f"{key} had {promise}")
            return
        self.stock[ref].dispatched -= qty
        self.returned[key] += qty
        self._keep(replace(promise, dispatched=promise.dispatched - qty))
        if event.data["condition"] == "check":
            self._due.append(("quarantined", ("", ref)))

    def _keep(self, promise: Promise) -> None:
        self.promises[promise.key, promise.batch] = promise
        if not (promise.qty or promise.dispatched):
            del self.promises[promise.key, promise.batch]

    def _oversold(self) -> Iterator[Violation]:
        for ref, stock in self.stock.items():
            if not 0 <= (allocated := self.allocated(ref)) <= stock.holds:
                what = f"{self.sku} version {self.version}: {ref} holds {stock.holds}, and {allocated} are taken"
                yield Violation("oversold", what)

    def _best(self, qty: int) -> str | None:
        roomy = [(stock.rank, ref) for ref, stock in self.stock.items() if stock.holds - self.allocated(ref) >= qty]
        return min(roomy)[1] if roomy else None

    def _wrong(self, kind: str, event: Told, what: str) -> Violation:
        return Violation(kind, f"{self.sku} version {event.version}, {event.kind}: {what}")


def _about(event: Told) -> Key:
    """A line, or else a batch."""
    if "lineid" in event.data:
        return event.data["orderid"], event.data["lineid"]
    return "", event.data.get("ref", "")


def _born(event: Told) -> set[str]:
    return {event.data["ref"]} if event.kind == "batch_created" else set()
