"""The rules of allocation once more, in other words than the service's: one product, replayed from its told events.

It decides nothing. It says of each event whether it could rightly happen then, and keeps what must be true after it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from tests.chaos.history import NAMES_A_HOLD, Told, Violation, is_past

Key = tuple[str, str]

PLACED = "allocated", "backordered", "out_of_stock"
NOTHING: Mapping[str, int] = MappingProxyType({})
BREAKING = "hold_ended", "deallocated", "quarantined", "batch_expired"


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
    initial_expires: str | None = None
    expires: str | None = None
    overdue: bool = False
    expired: bool = False
    """Both: it is recorded."""

    @property
    def rank(self) -> tuple[bool, str, str, int]:
        return self.eta is not None, self.eta or "", self.expires or "9999", self.added

    @property
    def on_shelf(self) -> int:
        return self.holds - self.dispatched - self.quarantined if self.eta is None else 0


@dataclass(frozen=True, slots=True)
class Promise:
    """What a line has of a batch: so much is promised, and so much more has left."""

    key: Key
    qty: int
    batch: str
    version: int
    dispatched: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """So much of a batch is kept for nobody's line yet."""

    hold_id: str
    qty: int
    batch: str
    until: datetime
    version: int


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
    held: dict[str, Hold] = field(default_factory=dict)
    said: list[Hold] = field(default_factory=list)
    """All that was ever held, each as long as was said at the time."""
    ran_out: list[tuple[str, Hold]] = field(default_factory=list)
    """With the event of which that is said."""
    first_to_run_out: dict[tuple[int, Key], Hold] = field(default_factory=dict)
    """Of what was held when the outcome with this version was recorded."""
    moves: list[tuple[Key, int, str, str]] = field(default_factory=list)
    """Promises that were pulled forward: of which line, how much, from where to where."""
    _due: deque[tuple[str, Key]] = field(default_factory=deque)
    _freed: dict[str, Hold] = field(default_factory=dict)
    """What became a promise just now, as far as the lines that are told of next have not taken it."""
    _taker: str | None = None
    """The order of these lines, once there is one."""
    _moving: Promise | None = None
    _moved_to: str | None = None
    """Where a promise was pulled just now."""
    _since_commit: list[Told] = field(default_factory=list)

    def take(self, event: Told) -> Iterator[Violation]:
        self.version = event.version
        yield from self._nothing_comes_between(event)
        yield from self._nobody_waits_who_fits(event)
        following = self._follows(event)
        if following is None:
            yield self._wrong("reallocation", event, f"expected next: {self._due[0][0]} {self._due[0][1]}")
            self._due.clear()
        if event.data.get("ref", event.data.get("batchref", "")) not in {"", None, *self.stock} | _born(event):
            yield self._wrong("unknown batch", event, str(event.data))
            return
        if event.kind in PLACED and not (following or event.data.get("waited")):
            self.outcomes.append(event)
            if self.held:
                first = min(self.held.values(), key=lambda hold: hold.until)
                self.first_to_run_out[event.version, _about(event)] = first
        yield from self._apply(event, is_due=following is True)
        self._since_commit.append(event)
        if not any(kind in BREAKING for kind, _ in self._due):
            yield from self._oversold()

    def committed(self) -> Iterator[Violation]:
        """What must be true whenever others can see it."""
        for kind, key in self._due:
            yield Violation("reallocation", f"{self.sku} was committed at {self.version}, before {key} is {kind}")
        self._due.clear()
        if self._freed and not self._taker:
            yield Violation("hold", f"{self.sku} was committed at {self.version}, and no line has what was held for it")
        self._end_taking_over()
        yield from self._all_were_pulled()
        if fits := self._who_fits():
            yield Violation("queue", f"{self.sku} was committed at {self.version}, and {fits} waits")
        for ref, stock in self.stock.items():
            if stock.expired and stock.eta is None and self._room(ref) > 0:
                what = f"{self.sku} was committed at {self.version}: {self._room(ref)} of {ref} are not in quarantine"
                yield Violation("expired", what)
        yield from self._oversold()
        self._moving = self._moved_to = None
        self._since_commit.clear()

    def promised(self, key: Key) -> int:
        return sum(promise.qty for promise in self.of(key))

    def of(self, key: Key) -> list[Promise]:
        return [promise for promise in self.promises.values() if promise.key == key]

    def allocated(self, batch: str) -> int:
        """What is taken of it: promised, gone, or not for sale."""
        parts = self.stock[batch].dispatched + self.stock[batch].quarantined + self.held_of(batch)
        return parts + sum(promise.qty for promise in self.promises.values() if promise.batch == batch)

    def held_of(self, batch: str) -> int:
        return sum(hold.qty for hold in self.held.values() if hold.batch == batch)

    def _room(self, batch: str) -> int:
        return self.stock[batch].holds - self.allocated(batch)

    def _follows(self, event: Told) -> bool | None:
        """True: it is what another event made due; False: nothing was due; None: something else was."""
        if not self._due:
            return False
        kind, key = self._due[0]
        right_kind = event.kind in PLACED if kind == "placed" else event.kind == kind
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
                self._set(data["ref"], self.stock[data["ref"]].holds, is_receipt=data.get("came_with") == "receipt")
            case "quarantine_released":
                yield from self._for_sale_again(event)
            case "batch_overdue":
                yield from self._be_overdue(event)
            case "batch_expired":
                yield from self._expire(event)
            case "hold_placed":
                yield from self._hold(event)
            case "hold_extended":
                yield from self._extend(event)
            case "hold_ended":
                yield from self._end(event, is_due=is_due)
            case "line_released" if data["why"] == "moved":
                yield from self._move(event)
            case "allocated" if self._moving:
                yield from self._arrive(event, self._moving)
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
        eta, expires = event.data["eta"], event.data.get("expires")
        self.stock[ref] = Stock(qty, eta, qty, eta, event.version, initial_expires=expires, expires=expires)

    def _receive(self, event: Told) -> Iterator[Violation]:
        ref, stock = event.data["ref"], self.stock[event.data["ref"]]
        expected = event.data["received"] + (stock.holds if stock.eta is None else 0)
        if event.data["qty"] != expected:
            yield self._wrong("wrong quantity", event, f"{ref} should hold {expected}")
        if stock.eta is not None:
            stock.eta, stock.added = None, event.version
        stock.overdue, stock.expired = False, stock.expired and stock.expires == event.data["expires"]
        stock.expires = event.data["expires"]
        if event.data["damaged"]:
            stock.holds = event.data["qty"]
            self._due.append(("quarantined", ("", ref)))
        else:
            self._set(ref, event.data["qty"], is_receipt=True)

    def _count(self, event: Told) -> Iterator[Violation]:
        stock = self.stock[event.data["ref"]]
        expected = event.data["counted"] + stock.dispatched + stock.quarantined
        if stock.eta is not None or event.data["qty"] != expected:
            yield self._wrong("wrong quantity", event, f"it should hold {expected}, and was expected {stock.eta}")
        self._set(event.data["ref"], event.data["qty"])

    def _set(self, ref: str, qty: int, *, is_receipt: bool = False) -> None:
        """What it holds; what it can't keep by that is due to be broken. Of what has expired when it is received that
        is all, with the event that says so."""
        stock = self.stock[ref]
        stock.holds = qty
        if is_receipt and is_past(stock.expires) and not stock.expired:
            self._due.append(("batch_expired", ("", ref)))
        else:
            self._break(ref, self.allocated(ref) - qty)

    def _break(self, ref: str, too_much: int) -> None:
        """Holds first, the newest first; then promises, the newest, which are told of the oldest first, and to be
        placed again. All that breaks comes before anything is placed."""
        broken: list[tuple[str, Key]] = []
        for hold in sorted((one for one in self.held.values() if one.batch == ref), key=lambda one: -one.version):
            if too_much <= 0:
                break
            too_much -= hold.qty
            broken.append(("hold_ended", ("", hold.hold_id)))
        lost: list[Key] = []
        for promise in sorted(
            (p for p in self.promises.values() if p.batch == ref and p.qty), key=lambda p: -p.version
        ):
            if too_much <= 0:
                break
            too_much -= promise.qty
            lost.insert(0, promise.key)
        broken += [("deallocated", key) for key in lost]
        self._due = deque([*broken, *self._due, *(("placed", key) for key in lost)])

    def _for_sale_again(self, event: Told) -> Iterator[Violation]:
        stock = self.stock[event.data["ref"]]
        stock.quarantined -= event.data["qty"]
        if stock.quarantined < 0:
            yield self._wrong("wrong quantity", event, f"{stock.quarantined} are in quarantine now")
        if is_past(stock.expires):
            yield self._wrong("expired", event, f"it can't be sold since {stock.expires}")

    def _be_overdue(self, event: Told) -> Iterator[Violation]:
        stock = self.stock[event.data["ref"]]
        if stock.overdue:
            yield self._wrong("applied twice", event, f"that it is overdue since {stock.eta} was said before")
        if event.data["eta"] != stock.eta or not is_past(stock.eta):
            yield self._wrong("overdue", event, f"it is expected {stock.eta}")
        stock.overdue = True

    def _expire(self, event: Told) -> Iterator[Violation]:
        """At first all that is on the shelf, whoever has it; later what came back, or was found."""
        ref, stock = event.data["ref"], self.stock[event.data["ref"]]
        if not is_past(stock.expires):
            yield self._wrong("expired", event, f"it can be sold until {stock.expires}")
        came_back = self._room(ref) if stock.eta is None else 0
        expected = came_back if stock.expired else stock.on_shelf
        if event.data["qty"] != expected:
            yield self._wrong("wrong quantity", event, f"{expected} of {ref} are here")
        if stock.expired and expected <= 0:
            yield self._wrong("applied twice", event, "it was said before, and nothing has come back")
        stock.quarantined += event.data["qty"]
        if not stock.expired:
            promised = sum(promise.qty for promise in self.promises.values() if promise.batch == ref)
            self._break(ref, promised + self.held_of(ref))
        stock.expired = True

    def _arrival_of_expired(self, event: Told) -> Told | None:
        """The receipt by which goods came in, in this transaction, of which the event says that they had expired."""
        if event.kind != "batch_expired":
            return None
        of_batch = (one for one in self._since_commit if one.data.get("ref") == event.data["ref"])
        return next((one for one in of_batch if one.kind == "batch_received"), None)

    def _hold(self, event: Told) -> Iterator[Violation]:
        hold_id, qty, ref = event.data["hold_id"], event.data["qty"], event.data["batchref"]
        if hold_id in self.held:
            yield self._wrong("applied twice", event, f"it was held before: {self.held[hold_id]}")
        if (best := self._best(qty)) != ref:
            yield self._wrong("wrong batch", event, f"{hold_id} should be at {best}")
        self.held[hold_id] = Hold(hold_id, qty, ref, _instant(event), event.version)
        self.said.append(self.held[hold_id])

    def _extend(self, event: Told) -> Iterator[Violation]:
        hold = self.held.get(event.data["hold_id"])
        if hold is None or _instant(event) <= hold.until:
            yield self._wrong("hold", event, f"there was {hold}")
            return
        self.held[hold.hold_id] = replace(hold, until=_instant(event))
        self.said.append(self.held[hold.hold_id])

    def _end(self, event: Told, *, is_due: bool) -> Iterator[Violation]:
        """Broken when due, and only then. What has run out comes before all else that a transaction does, but for those
        who are served from it, the first that ran out first."""
        hold, why = self.held.pop(event.data["hold_id"], None), event.data["why"]
        if hold is None or (hold.qty, hold.batch) != (event.data["qty"], event.data["batchref"]):
            yield self._wrong("hold", event, f"there was {hold}")
            return
        if (why == "broken") != is_due:
            yield self._wrong("hold", event, "it was broken for no reason" if why == "broken" else "it must be broken")
        if why == "confirmed":
            self._freed[hold.hold_id] = hold
        elif why == "expired":
            before = [one for one in self._since_commit if not one.data.get("waited")]
            if other := next((one for one in before if one.data.get("why") != "expired"), None):
                yield self._wrong("hold", event, f"it has run out, and {other.kind} came before that")
            elif before and (last := self.ran_out[-1][1]).until > hold.until:
                yield self._wrong("hold", event, f"{last.hold_id} ran out later, and ended before it")
            self.ran_out.append((event.id, hold))

    def _nothing_comes_between(self, event: Told) -> Iterator[Violation]:
        """Between what was held and the lines that it was held for, nor between one promise that moves and the next."""
        is_line = event.kind in ("allocated", "backordered") and not event.data.get("waited")
        if is_line and self._freed and self._taker in {None, event.data["orderid"]}:
            self._taker = event.data["orderid"]
        elif self._taker or event.data.get("why") != "confirmed":
            if self._freed and not self._taker:
                yield self._wrong("hold", event, f"{[*self._freed]} were to become promises next")
            self._end_taking_over()
        if _moves(event) or (self._moving and event.kind == "allocated"):
            return
        yield from self._all_were_pulled()
        self._moving = self._moved_to = None

    def _end_taking_over(self) -> None:
        self._freed.clear()
        self._taker = None

    def _best_for(self, key: Key, qty: int) -> str | None:
        """Of a line that takes a hold over: where that is, if there is room. What was held for others of its order is
        not free for it."""
        hold = self._freed.get(_hold_of(key))
        kept = Counter[str]()
        for other in self._freed.values():
            kept[other.batch] += other.qty if other is not hold else 0
        best = self._best(qty, hold.batch if hold else None, kept)
        if hold and best == hold.batch:
            self._freed[hold.hold_id] = replace(hold, qty=max(0, hold.qty - qty))
        return best

    def _move(self, event: Told) -> Iterator[Violation]:
        key, ref = _about(event), event.data["batchref"]
        self._moving = self.promises.get((key, ref))
        yield from self._give_back(event, is_due=True)
        self._due.append(("allocated", key))

    def _arrive(self, event: Told, was: Promise) -> Iterator[Violation]:
        """A whole promise of a batch that comes later, the oldest of those that fit first."""
        key, qty, ref = _about(event), event.data["qty"], event.data["batchref"]
        self._moving = None
        if (key, qty) != (was.key, was.qty) or event.data.get("waited"):
            yield self._wrong("pull", event, f"what was to move is {was}")
        if self._moved_to not in {None, ref}:
            yield self._wrong("pull", event, f"the one before it moved to {self._moved_to}")
        if self.stock[ref].rank >= self.stock[was.batch].rank or is_past(self.stock[ref].expires):
            yield self._wrong("wrong batch", event, f"{key} had {was} before")
        for older in self._could_move_to(ref):
            if older.version < was.version:
                yield self._wrong("pull", event, f"{older} fits, and is older than {was}")
        self.moves.append((key, qty, was.batch, ref))
        self._promise(event)
        self._moved_to = ref

    def _could_move_to(self, ref: str) -> list[Promise]:
        rank, room = self.stock[ref].rank, self._room(ref)
        return [one for one in self.promises.values() if self.stock[one.batch].rank > rank and 0 < one.qty <= room]

    def _all_were_pulled(self) -> Iterator[Violation]:
        if self._moved_to and (left := self._could_move_to(self._moved_to)):
            what = f"{self.sku} version {self.version}: {left[0]} fits into {self._moved_to} as well"
            yield Violation("pull", what)

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
        best = self._best_for(key, qty)
        if best != ref:
            yield self._wrong("wrong batch", event, f"{key} should be at {best}")
        self._promise(event)

    def _promise(self, event: Told) -> None:
        key, ref = _about(event), event.data["batchref"]
        dispatched = self.promises[key, ref].dispatched if (key, ref) in self.promises else 0
        self.promises[key, ref] = Promise(key, event.data["qty"], ref, event.version, dispatched)
        self.returned.setdefault(key, 0)

    def _wait(self, event: Told, *, is_due: bool) -> Iterator[Violation]:
        key, qty = _about(event), event.data["qty"]
        if not is_due and (self.of(key) or self.returned.get(key) or key in self.waiting):
            yield self._wrong("applied twice", event, f"{key} had {self.of(key)}")
        if key[0] in self.cancelled:
            yield self._wrong("cancelled", event, f"{key[0]} was cancelled")
        if best := self._best_for(key, qty):
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
        room = self._room(ref)
        for other in self._queue():
            if other == key:
                break
            if self.waiting[other] <= room:
                yield self._wrong("queue", event, f"{other} was before {key}, and {room} were in {ref}")
        self.waiting.pop(key, None)

    def _queue(self) -> list[Key]:
        return sorted(self.waiting, key=lambda key: self.since[key])

    def _who_fits(self) -> Key | None:
        if self._due or self._freed:
            return None
        return next((key for key in self._queue() if self._best(self.waiting[key])), None)

    def _nobody_waits_who_fits(self, event: Told) -> Iterator[Violation]:
        """Room that there is goes to those who wait before anything else happens; but a rest is there before what
        arrived of its batch, expired or not, and several promises move at once."""
        arrived = event if event.kind == "batch_received" else self._arrival_of_expired(event)
        comes_with_its_rest = arrived and arrived.data["rest"]
        moves_too = self._moved_to and _moves(event)
        if not (event.data.get("waited") or comes_with_its_rest or moves_too) and (fits := self._who_fits()):
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

    def _best(self, qty: int, first: str | None = None, kept: Mapping[str, int] = NOTHING) -> str | None:
        """One that comes `first` is better than all others; so much of each is `kept`."""
        for_sale = [(ref, stock) for ref, stock in self.stock.items() if not is_past(stock.expires)]
        roomy = [
            (ref != first, stock.rank, ref) for ref, stock in for_sale if self._room(ref) - kept.get(ref, 0) >= qty
        ]
        return min(roomy)[2] if roomy else None

    def _wrong(self, kind: str, event: Told, what: str) -> Violation:
        return Violation(kind, f"{self.sku} version {event.version}, {event.kind}: {what}")


def _about(event: Told) -> Key:
    """A line, or else a hold or a batch."""
    if "lineid" in event.data:
        return event.data["orderid"], event.data["lineid"]
    return "", event.data.get("hold_id") or event.data.get("ref", "")


def _hold_of(key: Key) -> str:
    """Which hold the line takes over, if any."""
    return key[1].partition(NAMES_A_HOLD)[2]


def _moves(event: Told) -> bool:
    return event.kind == "line_released" and event.data["why"] == "moved"


def _instant(event: Told) -> datetime:
    return datetime.fromisoformat(event.data["until"])


def _born(event: Told) -> set[str]:
    return {event.data["ref"]} if event.kind == "batch_created" else set()
