"""What a warehouse does, said a second time and in another way: stock is a list of single units, each somewhere.

It shares no code with the service, but for the commands that it is asked: no counters, no versions, no events. It is
slow, and so plain that it can be believed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

Line = tuple[str, str]


@dataclass(eq=False)
class Unit:
    """One piece. `state` is available, held, promised, dispatched or quarantined; what is promised to a `line`, or held
    under a key, has an `age`."""

    batch: Lot
    state: str = "available"
    line: Line | None = None
    age: int = 0
    hold: Line | None = None


@dataclass(eq=False)
class Lot:
    ref: str
    sku: str
    eta: date | None
    expires: date | None
    created: tuple[Any, ...]
    place: int
    location: str = ""
    overdue: bool = False
    expired: bool = False

    @property
    def turn(self) -> tuple[Any, ...]:
        return (
            0 if self.eta is None else 1,
            self.eta or date.min,
            self.expires or date.max,
            self.place,
        )


class Refused(Exception):
    """By the name of the error that the service should raise."""


@dataclass(frozen=True)
class Wish:
    """What a line wants beside its quantity. `since` is when it was accepted."""

    priority: int = 5
    needed_by: date | None = None
    may_split: bool = False
    waits: bool = False
    locations: tuple[str, ...] = ()
    since: int = 0


@dataclass
class Oracle:
    now: datetime
    lots: dict[str, Lot] = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)
    lines: dict[Line, str] = field(default_factory=dict)  # the SKU of each line that is known
    came_back: Counter[Line] = field(default_factory=Counter)
    pieces: dict[Line, list[str]] = field(default_factory=dict)  # batches, the one that left last is the last
    wishes: dict[Line, Wish] = field(default_factory=dict)
    waiting: Counter[Line] = field(default_factory=Counter)
    holds: dict[Line, datetime] = field(default_factory=dict)  # until when, by SKU and id
    cancelled: set[str] = field(default_factory=set)
    papers: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    _expired_lines: list[Any] = field(default_factory=list)
    clock: Any = field(default_factory=lambda: count(1))

    @property
    def today(self) -> date:
        return self.now.date()

    # --- what is where ---------------------------------------------------------------

    def of(self, ref: str, state: str, line: Line | None = None) -> list[Unit]:
        return [
            unit
            for unit in self.units
            if unit.batch.ref == ref and unit.state == state and (line is None or unit.line == line)
        ]

    def of_line(self, line: Line, state: str) -> list[Unit]:
        return [unit for unit in self.units if unit.line == line and unit.state == state]

    def parts(self, ref: str) -> tuple[int, ...]:
        """As a batch has them: purchased, available, promised, dispatched, quarantined, held."""
        states = Counter(unit.state for unit in self.units if unit.batch.ref == ref)
        names = ("available", "promised", "dispatched", "quarantined", "held")
        return (states.total(), *(states[name] for name in names))

    def has(self, line: Line) -> dict[str, tuple[int, int]]:
        """Promised and dispatched, by batch."""
        return {
            ref: (len(self.of(ref, "promised", line)), len(self.of(ref, "dispatched", line)))
            for ref in self.pieces.get(line, ())
        }

    def queue(self, sku: str) -> list[Line]:
        """Those who wait, in their turn."""
        waiting = [line for line, qty in self.waiting.items() if qty and self.lines[line] == sku]
        return sorted(waiting, key=lambda line: (-self.wishes[line].priority, self.wishes[line].since))

    def total(self, line: Line) -> int:
        there = len(self.of_line(line, "promised")) + len(self.of_line(line, "dispatched"))
        return there + self.waiting[line] + self.came_back[line]

    def suits(self, lot: Lot, wish: Wish) -> bool:
        if lot.expires and lot.expires < self.today:
            return False
        if wish.locations and lot.location not in wish.locations:
            return False
        day = date.min if lot.eta is None else max(lot.eta, self.today)
        return wish.needed_by is None or day <= wish.needed_by

    # --- what is asked ---------------------------------------------------------------

    def ask(self, command: Any) -> Any:
        """Raises Refused; then something may have changed, and whoever asks goes on with a copy from before."""
        said = getattr(self, re.sub("(?<!^)([A-Z])", r"_\1", type(command).__name__).lower())(command)
        self._settle()
        return said

    def _settle(self) -> None:
        self._tidy()
        for unit in self.units:
            if unit.state == "available" and unit.batch.expired and unit.batch.eta is None:
                unit.state = "quarantined"
        self._serve()
        self._tidy()

    def later(self, asked: Any) -> None:
        """What runs out meanwhile is free at its instant, and who waits is served then."""
        self.now += timedelta(seconds=asked.seconds)
        for key in sorted((key for key in self.holds if self.holds[key] <= self.now), key=self._runs_out):
            self._end(key)
            self._settle()

    def _runs_out(self, key: Line) -> tuple[datetime, int]:
        return self.holds[key], self.held(key)[0].age

    def held(self, key: Line) -> list[Unit]:
        return [unit for unit in self.units if unit.hold == key]

    def _end(self, key: Line) -> None:
        for unit in self.held(key):
            unit.state, unit.hold = "available", None
        self.holds.pop(key, None)

    def place_hold(self, asked: Any) -> None:
        key = asked.sku, asked.hold_id
        if asked.sku not in {lot.sku for lot in self.lots.values()}:
            raise Refused("InvalidSku")
        if key in self.holds:
            if len(self.held(key)) != asked.qty:
                raise Refused("HoldConflict")
            return
        pieces = self._pieces(asked.sku, asked.qty, Wish())
        if not pieces:
            raise Refused("NoRoom")
        age = next(self.clock)
        for unit in self.of(pieces[0][0], "available")[: asked.qty]:
            unit.state, unit.hold, unit.age = "held", key, age
        self.holds[key] = self.now + timedelta(seconds=asked.seconds)

    def extend_hold(self, asked: Any) -> None:
        key = asked.sku, asked.hold_id
        if key not in self.holds:
            raise Refused("HoldIsOver")
        wanted = max(self.holds[key], self.now + timedelta(seconds=asked.seconds))
        self.holds[key] = min(wanted, self.now + timedelta(hours=4))

    def void_hold(self, asked: Any) -> None:
        self._end((asked.sku, asked.hold_id))

    def confirm_hold(self, asked: Any) -> None:
        line, key = (asked.orderid, asked.lineid), (asked.sku, asked.hold_id)
        waits = self.waiting[line]
        if self._is_known(line, asked.sku, asked.qty) and not waits:
            return
        if waits not in {0, asked.qty}:
            raise Refused("LineConflict")
        if asked.orderid in self.cancelled:
            raise Refused("OrderIsCancelled")
        units = self.held(key)
        if not units or (units[0].batch.expires or date.max) < self.today:
            raise Refused("HoldIsOver")
        if asked.qty > len(units):
            raise Refused("NotEnough")
        self._end(key)
        if not waits:
            self.wishes[line] = Wish(asked.priority, asked.needed_by, False, True, (), next(self.clock))
        self.waiting[line] = 0
        self._promise(line, asked.sku, units[: asked.qty])

    def pull_forward(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        if lot.sku != asked.sku:
            raise Refused("UnknownBatch")
        room = len(self.of(lot.ref, "available"))
        promised = {(unit.line, unit.batch.ref): unit for unit in self.units if unit.state == "promised"}
        later = [unit for unit in promised.values() if unit.batch.sku == lot.sku and unit.batch.turn > lot.turn]
        later.sort(key=lambda unit: (-self.wishes[unit.line or ("", "")].priority, unit.age))
        moving: list[tuple[Line, list[Unit]]] = []
        for one in later:
            line = one.line
            assert line
            units = self.of(one.batch.ref, "promised", line)
            if len(units) <= room and self.suits(lot, self.wishes[line]) and len(moving) < asked.most:
                moving.append((line, units))
                room -= len(units)
        for line, units in moving:
            for unit in units:
                unit.state, unit.line = "available", None
            self._tidy()
            self._promise(line, lot.sku, self.of(lot.ref, "available")[: len(units)])

    def apply_due_dates(self, asked: Any) -> None:
        lots = [self.lots[ref] for ref in sorted(set(asked.refs)) if ref in self.lots]
        due = [(lot.eta, 0, lot) for lot in lots if lot.eta and lot.eta < self.today]
        due += [(lot.expires, 1, lot) for lot in lots if lot.expires and lot.expires < self.today and not lot.expired]
        for _, is_expiry, lot in sorted(due, key=lambda one: one[:2]):
            if lot.sku != asked.sku:
                continue
            if not is_expiry:
                lot.overdue = True
                continue
            self._expired_lines.append((lot.ref, self._expire(lot)))
        for ref, lines in self._expired_lines:
            self._place_again(ref, lines)
        self._expired_lines.clear()

    def _expire(self, lot: Lot) -> list[tuple[Line, int]]:
        lot.expired = True
        broken = []
        while self.of(lot.ref, "held") or self.of(lot.ref, "promised"):
            if lost := self._break_next(lot.ref, len(self.of(lot.ref, "promised"))):
                broken.append(lost)
        for unit in self.of(lot.ref, "available"):
            unit.state = "quarantined" if lot.eta is None else "available"
        return broken

    def _serve(self) -> None:
        for sku in sorted({lot.sku for lot in self.lots.values()}):
            for line in self.queue(sku):
                for ref, qty in self._pieces(sku, self.waiting[line], self.wishes[line]):
                    self.waiting[line] -= qty
                    self._promise(line, sku, self.of(ref, "available")[:qty])

    def create_batch(self, asked: Any) -> None:
        created = asked.sku, asked.qty, asked.eta, asked.expires, asked.location
        if asked.ref in self.lots:
            if self.lots[asked.ref].created != created:
                raise Refused("BatchConflict")
            return
        self.lots[asked.ref] = lot = Lot(
            asked.ref, asked.sku, asked.eta, asked.expires, created, next(self.clock), asked.location
        )
        self.units += [Unit(lot) for _ in range(asked.qty)]

    def allocate(self, asked: Any) -> None:
        line = asked.orderid, asked.lineid
        if asked.sku not in {lot.sku for lot in self.lots.values()}:
            raise Refused("InvalidSku")
        if asked.orderid in self.cancelled:
            raise Refused("OrderIsCancelled")
        if self._is_known(line, asked.sku, asked.qty):
            if self.waiting[line]:
                raise Refused("LineConflict")
        else:
            self.wishes[line] = Wish()
            self._place(line, asked.sku, asked.qty)

    def _is_known(self, line: Line, sku: str, qty: int) -> bool:
        total = self.total(line)
        if not total:
            return False
        if (self.lines[line], total) != (sku, qty) or total == self.came_back[line]:
            raise Refused("LineConflict")
        return True

    def place_order(self, asked: Any) -> Any:
        skus = {lot.sku for lot in self.lots.values()}
        if any(line.sku not in skus for line in asked.lines):
            raise Refused("InvalidSku")
        if asked.orderid in self.cancelled:
            raise Refused("OrderIsCancelled")
        new = [one for one in asked.lines if not self._is_known((asked.orderid, one.lineid), one.sku, one.qty)]
        may_split = asked.may_split or asked.mode == "partial"
        wish = Wish(asked.priority, asked.needed_by, may_split, True, tuple(asked.locations or ()))
        given: Counter[str] = Counter()
        held = Counter({(one.sku, one.hold): len(self.held((one.sku, one.hold))) for one in new if one.hold})
        plan, short = [], []
        for one in new:
            key = one.sku, one.hold
            mine = self.held(key)[0].batch.ref if one.hold and key in self.holds else None
            pieces = self._pieces(one.sku, one.qty, wish, given, mine, held[key])
            for ref, qty in pieces:
                of_hold = min(qty, held[key]) if ref == mine else 0
                held[key] -= of_hold
                given[ref] += qty - of_hold
            plan.append((one, pieces))
            if sum(qty for _, qty in pieces) < one.qty:
                short.append(one.lineid)
        if short and asked.mode == "all_or_nothing":
            return short
        for one in new:
            if one.hold:
                self._end((one.sku, one.hold))
        for one, pieces in plan:
            line = asked.orderid, one.lineid
            self.wishes[line] = replace(wish, since=next(self.clock))
            self.lines[line] = one.sku
            for ref, qty in pieces:
                self._promise(line, one.sku, self.of(ref, "available")[:qty])
            self.waiting[line] += one.qty - sum(qty for _, qty in pieces)
        return []

    def change_line(self, asked: Any) -> None:
        line = self._known(asked.orderid, asked.lineid)
        total = self.total(line)
        if asked.expected not in {None, total}:
            raise Refused("StaleQuantity")
        if asked.qty < len(self.of_line(line, "dispatched")) + self.came_back[line]:
            raise Refused("BelowDispatched")
        if asked.qty < total:
            self._reduce(line, total - asked.qty)
        elif asked.qty > total:
            if asked.orderid in self.cancelled:
                raise Refused("OrderIsCancelled")
            self._extend(line, asked.qty - total)

    def _reduce(self, line: Line, by: int) -> None:
        waiting = min(by, self.waiting[line])
        self.waiting[line] -= waiting
        by -= waiting
        units = self.of_line(line, "promised")
        units.sort(key=lambda unit: unit.batch.turn, reverse=True)
        for unit in units[:by]:
            unit.state, unit.line = "available", None
        left = self.waiting[line]
        for ref, qty in self._pieces(self.lines[line], left, self.wishes[line]) if left else ():
            self.waiting[line] -= qty
            self._promise(line, self.lines[line], self.of(ref, "available")[:qty])

    def _extend(self, line: Line, by: int) -> None:
        sku, wish, units = self.lines[line], self.wishes[line], self.of_line(line, "promised")
        if not self.total(line):
            raise Refused("NoRoom")
        if self.waiting[line] and not units:
            self.waiting[line] += by
            return
        mine = sorted({unit.batch.ref for unit in units}, key=lambda ref: self.lots[ref].turn)
        for ref in mine:
            free = self.of(ref, "available")
            if len(free) >= by and self.suits(self.lots[ref], wish):
                self._promise(line, sku, free[:by])
                return
        own = Counter(unit.batch.ref for unit in units)
        for lot in self._lots(sku, wish):
            if len(self.of(lot.ref, "available")) + own[lot.ref] >= len(units) + by and self.suits(lot, wish):
                for unit in units:
                    if unit.batch is not lot:
                        unit.state, unit.line = "available", None
                self._tidy()
                missing = len(units) + by - own[lot.ref]
                self._promise(line, sku, self.of(lot.ref, "available")[:missing])
                return
        if not wish.may_split:
            raise Refused("NoRoom")
        self._place(line, sku, by)

    def _lots(self, sku: str, wish: Wish) -> list[Lot]:
        lots = [lot for lot in self.lots.values() if lot.sku == sku and self.suits(lot, wish)]
        return sorted(lots, key=lambda lot: (wish.locations.index(lot.location) if wish.locations else 0, lot.turn))

    def _pieces(  # noqa: PLR0917 - two of them together say what is held
        self,
        sku: str,
        qty: int,
        wish: Wish,
        given: Counter[str] | None = None,
        mine: str | None = None,
        held: int = 0,
    ) -> list[tuple[str, int]]:
        """From the batch in which so much is held for it first."""
        given = given or Counter()
        lots = sorted(self._lots(sku, wish), key=lambda lot: lot.ref != mine)
        free = [
            (lot.ref, len(self.of(lot.ref, "available")) - given[lot.ref] + (held if lot.ref == mine else 0))
            for lot in lots
        ]
        for ref, there in free:
            if there >= qty:
                return [(ref, qty)]
        pieces = []
        for ref, there in free if wish.may_split else ():
            if qty and there:
                pieces.append((ref, min(qty, there)))
                qty -= min(qty, there)
        return pieces

    def _place(self, line: Line, sku: str, qty: int) -> None:
        wish = self.wishes[line]
        for ref, given in self._pieces(sku, qty, wish):
            self._promise(line, sku, self.of(ref, "available")[:given])
            qty -= given
        if wish.waits:
            self.waiting[line] += qty

    def _promise(self, line: Line, sku: str, units: list[Unit]) -> None:
        ref = units[0].batch.ref
        there = self.of(ref, "promised", line)
        age = there[0].age if there else next(self.clock)
        for unit in units:
            unit.state, unit.line, unit.age = "promised", line, age
        self.lines[line] = sku
        pieces = self.pieces.setdefault(line, [])
        if ref not in pieces:
            pieces.append(ref)

    def _lose(self, ref: str, gone: int, spoiled: int = 0) -> None:
        """So many units are gone, and so many go into quarantine: free ones first, then those of the newest promises,
        which are broken whole and placed again."""
        self._place_again(ref, self._take(ref, gone, spoiled))

    def _take(self, ref: str, gone: int, spoiled: int = 0) -> list[tuple[Line, int]]:
        broken: list[tuple[Line, int]] = []
        while True:
            for unit in self.of(ref, "available"):
                if gone:
                    gone -= 1
                    self.units.remove(unit)
                elif spoiled:
                    spoiled -= 1
                    unit.state = "quarantined"
            if not gone + spoiled:
                break
            if lost := self._break_next(ref, gone + spoiled):
                broken.append(lost)
        return broken

    def _break_next(self, ref: str, missing: int) -> tuple[Line, int] | None:
        """The newest hold; when there is none, the promise that counts least."""
        if held := self.of(ref, "held"):
            newest = max(held, key=lambda unit: unit.age).hold
            assert newest
            self._end(newest)
            return None

        def weight(unit: Unit) -> tuple[int, int]:
            assert unit.line
            return -self.wishes[unit.line].priority, unit.age

        line = max(self.of(ref, "promised"), key=weight).line
        assert line
        units = self.of(ref, "promised", line)
        if self.wishes[line].may_split:
            units = units[:missing]
        for unit in units:
            unit.state, unit.line = "available", None
        return line, len(units)

    def _place_again(self, ref: str, broken: list[tuple[Line, int]]) -> None:
        for line, qty in reversed(broken):
            self._tidy()
            self._place(line, self.lots[ref].sku, qty)

    def _lot(self, ref: str) -> Lot:
        if ref not in self.lots:
            raise Refused("UnknownBatch")
        return self.lots[ref]

    def _set_quantity(self, ref: str, qty: int) -> None:
        now = self.parts(ref)[0]
        if qty >= now:
            self.units += [Unit(self.lots[ref]) for _ in range(qty - now)]
        else:
            self._lose(ref, now - qty)

    def change_batch_quantity(self, asked: Any) -> None:
        self._lot(asked.ref)
        _, _, _, dispatched, quarantined, _ = self.parts(asked.ref)
        if asked.qty == self.parts(asked.ref)[0]:
            return
        if asked.qty < dispatched + quarantined:
            raise Refused("BelowDispatched")
        self._set_quantity(asked.ref, asked.qty)

    def change_eta(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        if lot.eta is None:
            raise Refused("AlreadyArrived")
        if lot.eta != asked.eta:
            lot.eta, lot.overdue = asked.eta, False

    def _paper(self, key: tuple[Any, ...], said: tuple[Any, ...]) -> bool:
        """Whether it was said before."""
        if key in self.papers:
            if self.papers[key] != said:
                raise Refused("DocumentConflict")
            return True
        return False

    def receive_batch(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        key = "receipt", asked.ref, asked.receipt_id
        rest = (asked.rest.ref, asked.rest.eta) if asked.rest else None
        if key in self.papers:
            received, damaged, expires, other = self.papers[key]
            if (received, damaged, other) != (asked.received, asked.damaged, rest):
                raise Refused("DocumentConflict")
            if asked.expires is not None and asked.expires != expires:
                raise Refused("DocumentConflict")
            return
        before = self.parts(lot.ref)[0] if lot.eta is None else 0
        if asked.damaged > asked.received or before + asked.received > 10**9:
            raise Refused("ImpossibleReceipt")
        if lot.eta is None and asked.expires and asked.expires != lot.expires:
            raise Refused("BatchConflict")
        missing = 0 if lot.eta is None else self.parts(lot.ref)[0] - asked.received
        if asked.rest:
            if missing <= 0:
                raise Refused("ImpossibleReceipt")
            ref = asked.rest.ref
            if ref in self.lots:
                raise Refused("BatchConflict")
            created = lot.sku, missing, asked.rest.eta, None, lot.location
            self.lots[ref] = other_lot = Lot(
                ref, lot.sku, asked.rest.eta, None, created, next(self.clock), lot.location
            )
            self.units += [Unit(other_lot) for _ in range(missing)]
        was_here = lot.eta is None
        if asked.expires and asked.expires != lot.expires:
            lot.expires, lot.expired = asked.expires, False
        lot.overdue = False
        if not was_here:
            lot.eta, lot.place = None, next(self.clock)
        self.papers[key] = asked.received, asked.damaged, lot.expires, rest
        before = self.parts(lot.ref)[0]
        after = asked.received + (before if was_here else 0)
        self.units += [Unit(lot) for _ in range(after - before)]
        gone = max(0, before - after)
        if not lot.expires or lot.expires >= self.today or lot.expired:
            self._lose(lot.ref, gone, asked.damaged)
            return
        broken = self._expire(lot)
        for unit in self.of(lot.ref, "quarantined")[:gone]:
            self.units.remove(unit)
        self._place_again(lot.ref, broken)

    def count_batch(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        if self._paper(("count", asked.ref, asked.count_id), (asked.counted, asked.reason)):
            return
        if lot.eta is not None:
            raise Refused("NotArrived")
        purchased, _, _, dispatched, quarantined, _ = self.parts(asked.ref)
        if purchased - dispatched - quarantined != asked.expected:
            raise Refused("StaleQuantity")
        self.papers["count", asked.ref, asked.count_id] = asked.counted, asked.reason
        self._set_quantity(asked.ref, asked.counted + dispatched + quarantined)

    def quarantine(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        key, said = ("quarantine", asked.ref, asked.document), (asked.qty, asked.reason)
        if self._paper(key, said):
            return
        if lot.eta is not None:
            raise Refused("NotArrived")
        purchased, _, _, dispatched, quarantined, _ = self.parts(asked.ref)
        if asked.qty > purchased - dispatched - quarantined:
            raise Refused("NotEnough")
        self.papers[key] = said
        self._lose(asked.ref, 0, asked.qty)

    def release_quarantine(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        key, said = ("release", asked.ref, asked.document), (asked.qty,)
        if self._paper(key, said):
            return
        there = self.of(asked.ref, "quarantined")
        if asked.qty > len(there):
            raise Refused("NotEnough")
        if lot.expires and lot.expires < self.today:
            raise Refused("BatchIsExpired")
        self.papers[key] = said
        for unit in there[: asked.qty]:
            unit.state = "available"

    def write_off(self, asked: Any) -> None:
        self._lot(asked.ref)
        key, said = ("write-off", asked.ref, asked.document), (asked.qty, asked.reason)
        if self._paper(key, said):
            return
        there = self.of(asked.ref, "quarantined")
        if asked.qty > len(there):
            raise Refused("NotEnough")
        self.papers[key] = said
        for unit in there[: asked.qty]:
            self.units.remove(unit)

    def report_shortages(self, asked: Any) -> None:
        """Changes nothing."""
        if asked.sku not in {lot.sku for lot in self.lots.values()}:
            raise Refused("InvalidSku")

    def _known(self, orderid: str, lineid: str) -> Line:
        if (orderid, lineid) not in self.lines:
            raise Refused("UnknownLine")
        return orderid, lineid

    def _release(self, line: Line) -> None:
        for unit in self.of_line(line, "promised"):
            unit.state, unit.line = "available", None
        self.waiting[line] = 0

    def release_line(self, asked: Any) -> None:
        self._release(self._known(asked.orderid, asked.lineid))

    def cancel_order(self, asked: Any) -> None:
        lines = [line for line in self.lines if line[0] == asked.orderid]
        if not lines:
            raise Refused("UnknownOrder")
        if asked.orderid in self.cancelled:
            return
        out = any(self.of_line(line, "dispatched") for line in lines)
        if out and not any(self.of_line(line, "promised") or self.waiting[line] for line in lines):
            raise Refused("OrderIsComplete")
        self.cancelled.add(asked.orderid)
        for line in lines:
            self._release(line)

    def dispatch(self, asked: Any) -> None:
        """All of a parcel is looked at, then promises move, then all of it leaves; last, what was promised and has left
        with this parcel is lost to others."""
        leaving = []
        for part in asked.lines:
            line = self._known(asked.orderid, part.lineid)
            if not self._left_before(line, asked.dispatch_id, part):
                leaving.append((line, part, self._picked(line, part)))
        shelf: Counter[str] = Counter()
        for _, _, picked in leaving:
            shelf.update(picked)
        for ref, qty in shelf.items():
            purchased, _, _, dispatched, quarantined, _ = self.parts(ref)
            if qty > purchased - dispatched - quarantined:
                raise Refused("NotEnough")
        lent: Counter[str] = Counter()
        for line, part, _ in leaving:
            if part.batchref is not None:
                lent[part.batchref] += self._move(line, part.batchref, part.qty)
        for line, part, picked in leaving:
            for ref, qty in picked.items():
                for unit in self.of(ref, "promised", line)[:qty]:
                    unit.state = "dispatched"
                self.pieces[line].remove(ref)
                self.pieces[line].append(ref)
            self.papers["dispatch", *line, asked.dispatch_id] = part.qty, set(picked)
        broken = [(ref, self._take(ref, qty)) for ref, qty in lent.items()]
        for ref, lines in broken:
            self._place_again(ref, lines)

    def _left_before(self, line: Line, dispatch_id: str, part: Any) -> bool:
        key = "dispatch", *line, dispatch_id
        if key not in self.papers:
            return False
        qty, refs = self.papers[key]
        if qty != part.qty or (part.batchref and refs != {part.batchref}):
            raise Refused("DocumentConflict")
        return True

    def _picked(self, line: Line, part: Any) -> dict[str, int]:
        if part.qty > len(self.of_line(line, "promised")):
            raise Refused("NotEnough")
        if part.batchref is not None:
            lot = self.lots.get(part.batchref)
            if lot is None or lot.sku != self.lines[line]:
                raise Refused("UnknownBatch")
            if lot.eta is not None:
                raise Refused("NotArrived")
            return {part.batchref: part.qty}
        left, picked = part.qty, {}
        for ref in sorted(self.pieces[line], key=lambda ref: self.lots[ref].turn):
            units = self.of(ref, "promised", line)[:left]
            if units and self.lots[ref].eta is not None:
                raise Refused("NotArrived")
            if units:
                picked[ref] = len(units)
            left -= len(units)
        return picked

    def _move(self, line: Line, ref: str, qty: int) -> int:
        """Have so much of the line be promised there. Returns how many units were lent to the batch for that."""
        missing = left = max(0, qty - len(self.of(ref, "promised", line)))
        others = [other for other in self.pieces[line] if other != ref]
        for other in sorted(others, key=lambda other: self.lots[other].turn, reverse=True):
            for unit in self.of(other, "promised", line)[:left]:
                left -= 1
                unit.state, unit.line = "available", None
        self._tidy()
        lent = max(0, missing - len(self.of(ref, "available")))
        self.units += [Unit(self.lots[ref]) for _ in range(lent)]
        if missing:
            self._promise(line, self.lots[ref].sku, self.of(ref, "available")[:missing])
        return lent

    def return_line(self, asked: Any) -> None:
        line = self._known(asked.orderid, asked.lineid)
        key = "return", *line, asked.return_id
        if key in self.papers:
            qty, condition, refs = self.papers[key]
            if (qty, condition) != (asked.qty, asked.condition) or (asked.batchref and refs != {asked.batchref}):
                raise Refused("DocumentConflict")
            return
        if asked.batchref is not None and (
            asked.batchref not in self.lots or self.lots[asked.batchref].sku != self.lines[line]
        ):
            raise Refused("UnknownBatch")
        out = [
            unit
            for ref in reversed(self.pieces.get(line, []))
            if asked.batchref in {None, ref}
            for unit in self.of(ref, "dispatched", line)
        ]
        if asked.qty > len(out):
            raise Refused("NotEnough")
        for unit in out[: asked.qty]:
            unit.state, unit.line = ("available" if asked.condition == "good" else "quarantined"), None
        self.came_back[line] += asked.qty
        self.papers[key] = asked.qty, asked.condition, {unit.batch.ref for unit in out[: asked.qty]}

    def _tidy(self) -> None:
        for line, refs in self.pieces.items():
            refs[:] = [ref for ref in refs if self.of(ref, "promised", line) or self.of(ref, "dispatched", line)]
