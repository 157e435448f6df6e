"""What a warehouse does, said a second time and in another way: stock is a list of single units, each somewhere.

It shares no code with the service, but for the commands that it is asked: no counters, no versions, no events. It is
slow, and so plain that it can be believed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Any

Line = tuple[str, str]


@dataclass(eq=False)
class Unit:
    """One piece. `state` is available, promised, dispatched or quarantined; the first two of a `line` have an `age`."""

    batch: Lot
    state: str = "available"
    line: Line | None = None
    age: int = 0


@dataclass(eq=False)
class Lot:
    ref: str
    sku: str
    eta: date | None
    expires: date | None
    created: tuple[Any, ...]
    place: int

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


@dataclass
class Oracle:
    today: date
    lots: dict[str, Lot] = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)
    lines: dict[Line, str] = field(default_factory=dict)  # the SKU of each line that is known
    came_back: Counter[Line] = field(default_factory=Counter)
    pieces: dict[Line, list[str]] = field(default_factory=dict)  # batches, the one that left last is the last
    cancelled: set[str] = field(default_factory=set)
    papers: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    clock: Any = field(default_factory=lambda: count(1))

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
        """As a batch has them: purchased, available, promised, dispatched, quarantined."""
        states = Counter(unit.state for unit in self.units if unit.batch.ref == ref)
        names = ("available", "promised", "dispatched", "quarantined")
        return (states.total(), *(states[name] for name in names))

    def has(self, line: Line) -> dict[str, tuple[int, int]]:
        """Promised and dispatched, by batch."""
        return {
            ref: (len(self.of(ref, "promised", line)), len(self.of(ref, "dispatched", line)))
            for ref in self.pieces.get(line, ())
        }

    # --- what is asked ---------------------------------------------------------------

    def ask(self, command: Any) -> None:
        """Raises Refused; then something may have changed, and whoever asks goes on with a copy from before."""
        getattr(self, re.sub("(?<!^)([A-Z])", r"_\1", type(command).__name__).lower())(command)
        self._tidy()

    def create_batch(self, asked: Any) -> None:
        created = asked.sku, asked.qty, asked.eta, asked.expires
        if asked.ref in self.lots:
            if self.lots[asked.ref].created != created:
                raise Refused("BatchConflict")
            return
        self.lots[asked.ref] = lot = Lot(asked.ref, asked.sku, asked.eta, asked.expires, created, next(self.clock))
        self.units += [Unit(lot) for _ in range(asked.qty)]

    def allocate(self, asked: Any) -> None:
        line = asked.orderid, asked.lineid
        if asked.sku not in {lot.sku for lot in self.lots.values()}:
            raise Refused("InvalidSku")
        if asked.orderid in self.cancelled:
            raise Refused("OrderIsCancelled")
        there = len(self.of_line(line, "promised")) + len(self.of_line(line, "dispatched"))
        if there + self.came_back[line]:
            if (self.lines[line], there + self.came_back[line]) != (asked.sku, asked.qty) or not there:
                raise Refused("LineConflict")
            return
        self._place(line, asked.sku, asked.qty)

    def _place(self, line: Line, sku: str, qty: int) -> None:
        for lot in sorted((lot for lot in self.lots.values() if lot.sku == sku), key=lambda lot: lot.turn):
            free = self.of(lot.ref, "available")
            if len(free) >= qty and not (lot.expires and lot.expires < self.today):
                self._promise(line, sku, free[:qty])
                return

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
            broken.append(self._break_newest(ref))
        return broken

    def _break_newest(self, ref: str) -> tuple[Line, int]:
        line = max(self.of(ref, "promised"), key=lambda unit: unit.age).line
        assert line
        units = self.of(ref, "promised", line)
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
        _, _, _, dispatched, quarantined = self.parts(asked.ref)
        if asked.qty == self.parts(asked.ref)[0]:
            return
        if asked.qty < dispatched + quarantined:
            raise Refused("BelowDispatched")
        self._set_quantity(asked.ref, asked.qty)

    def change_eta(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        if lot.eta is None:
            raise Refused("AlreadyArrived")
        lot.eta = asked.eta

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
        if asked.damaged > asked.received:
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
            created = lot.sku, missing, asked.rest.eta, None
            self.lots[ref] = other_lot = Lot(ref, lot.sku, asked.rest.eta, None, created, next(self.clock))
            self.units += [Unit(other_lot) for _ in range(missing)]
        was_here = lot.eta is None
        lot.expires = asked.expires or lot.expires
        if not was_here:
            lot.eta, lot.place = None, next(self.clock)
        self.papers[key] = asked.received, asked.damaged, lot.expires, rest
        before = self.parts(lot.ref)[0]
        after = asked.received + (before if was_here else 0)
        self.units += [Unit(lot) for _ in range(after - before)]
        self._lose(lot.ref, max(0, before - after), asked.damaged)

    def count_batch(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        if self._paper(("count", asked.ref, asked.count_id), (asked.counted, asked.reason)):
            return
        if lot.eta is not None:
            raise Refused("NotArrived")
        purchased, _, _, dispatched, quarantined = self.parts(asked.ref)
        if purchased - dispatched - quarantined != asked.expected:
            raise Refused("StaleCount")
        self.papers["count", asked.ref, asked.count_id] = asked.counted, asked.reason
        self._set_quantity(asked.ref, asked.counted + dispatched + quarantined)

    def quarantine(self, asked: Any) -> None:
        lot = self._lot(asked.ref)
        key, said = ("quarantine", asked.ref, asked.document), (asked.qty, asked.reason)
        if self._paper(key, said):
            return
        if lot.eta is not None:
            raise Refused("NotArrived")
        purchased, _, _, dispatched, quarantined = self.parts(asked.ref)
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

    def _known(self, orderid: str, lineid: str) -> Line:
        if (orderid, lineid) not in self.lines:
            raise Refused("UnknownLine")
        return orderid, lineid

    def _release(self, line: Line) -> None:
        for unit in self.of_line(line, "promised"):
            unit.state, unit.line = "available", None

    def release_line(self, asked: Any) -> None:
        self._release(self._known(asked.orderid, asked.lineid))

    def cancel_order(self, asked: Any) -> None:
        lines = [line for line in self.lines if line[0] == asked.orderid]
        if not lines:
            raise Refused("UnknownOrder")
        if asked.orderid in self.cancelled:
            return
        out = any(self.of_line(line, "dispatched") for line in lines)
        if out and not any(self.of_line(line, "promised") for line in lines):
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
            purchased, _, _, dispatched, quarantined = self.parts(ref)
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
