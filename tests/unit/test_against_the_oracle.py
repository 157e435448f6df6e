"""The service and a second, plain telling of the same rules agree after each step, unit by unit."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import anything
from tests.fakes import NOON, TODAY, Service
from tests.oracle import Line, Oracle, Refused

from allocation.domain import commands as c
from allocation.domain.errors import DomainError
from allocation.domain.values import Condition
from allocation.service_layer.ports import UnitOfWork

SKUS = ["LAMP", "SOFA"]
EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "100"))

CONDITIONS: st.SearchStrategy[Condition] = st.sampled_from(get_args(Condition))
DAYS = [date(2026, 1, 1), date(2026, 1, 2)]
EXPIRIES = [None, TODAY, date(2026, 3, 10), date(2199, 12, 31)]
WHATEVER = anything.commands(SKUS)


class Asker:
    """Asks what makes sense as things are, most of the time; else anything."""

    def __init__(self, data: st.DataObject, oracle: Oracle) -> None:
        self._draw = data.draw
        self.oracle = oracle
        self._numbers = count(1)

    def next(self) -> Any:
        kinds = [self._create, self._allocate, self._order, self._order, self._of_batch, self._of_batch]
        kinds += [self._of_line, self._of_line, self._of_line, self._hold, self._of_hold, self._clock]
        ask = self._draw(st.sampled_from([*kinds, None]))
        return ask() if ask else self._draw(WHATEVER)

    def _one(self, values: list[str]) -> str:
        return self._draw(st.sampled_from(values))

    def _quantity(self, most: int) -> int:
        return self._draw(st.integers(1, max(1, most)))

    def _number(self) -> str:
        """Mostly one that was never used."""
        return self._draw(st.sampled_from([f"d{next(self._numbers)}", "n1"]))

    def _create(self) -> c.Command:
        ref, sku = f"b{self._quantity(4)}", self._one(SKUS)
        eta, expires = self._draw(st.sampled_from([None, *DAYS])), self._draw(st.sampled_from(EXPIRIES))
        return c.CreateBatch(ref, sku, self._draw(st.integers(0, 30)), eta, expires, self._draw(anything.locations))

    def _allocate(self) -> c.Command:
        order, line = f"o{self._quantity(4)}", self._one(["1", "2"])
        return c.Allocate(order, self._one(SKUS), self._quantity(12), line)

    def _order(self) -> c.Command:
        lineids = self._draw(st.sampled_from([["1"], ["2"], ["1", "2"], ["1", "2", "3"]]))
        lines = tuple(c.OrderedLine(self._one(SKUS), self._quantity(12), lineid) for lineid in lineids)
        placed = c.PlaceOrder(f"o{self._quantity(6)}", lines, self._draw(anything.modes))
        terms = self._draw(st.sampled_from([placed, placed, replace(placed, locations=("hamburg", "berlin"))]))
        of_order = self._draw(anything.priorities), self._draw(anything.days), self._draw(st.booleans())
        priority, needed_by, may_split = of_order
        return anything.possible(replace(terms, priority=priority, needed_by=needed_by, may_split=may_split))

    def _hold(self) -> c.Command:
        sku = self._one(SKUS)
        return c.PlaceHold(f"h{self._quantity(4)}", sku, self._quantity(8), self._draw(st.sampled_from([60, 600])))

    def _of_hold(self) -> c.Command:
        if not self.oracle.holds:
            return self._hold()
        sku, hold_id = key = self._draw(st.sampled_from(sorted(self.oracle.holds)))
        line = f"o{self._quantity(6)}", self._one(["1", "2", "3"])
        qty = self._quantity(len(self.oracle.held(key)))
        lines = c.OrderedLine(sku, self._quantity(12), line[1], hold_id), c.OrderedLine(sku, self._quantity(3), "9")
        asked: list[c.Command] = [
            c.ConfirmHold(hold_id, sku, qty, *line),
            c.ConfirmHold(hold_id, sku, qty, *line, self._draw(anything.priorities), self._draw(anything.days)),
            c.PlaceOrder(line[0], lines[:1], self._draw(anything.modes)),
            c.PlaceOrder(line[0], lines, self._draw(anything.modes)),
            c.ExtendHold(hold_id, sku, self._draw(st.sampled_from([1, 600, 14_400]))),
            c.VoidHold(hold_id, sku),
        ]
        return self._draw(st.sampled_from(asked))

    def _clock(self) -> Any:
        refs = tuple(sorted(self.oracle.lots))
        due = [c.ApplyDueDates(sku, refs) for sku in SKUS]
        return self._draw(st.one_of(anything.laters, anything.laters, st.sampled_from(due)))

    def _of_batch(self) -> c.Command:
        if not self.oracle.lots:
            return self._create()
        ref = self._one(sorted(self.oracle.lots))
        purchased, _, _, dispatched, quarantined, _ = self.oracle.parts(ref)
        shelf, number = purchased - dispatched - quarantined, self._number()
        rest = self._draw(st.sampled_from([None, c.Rest(f"rest of {ref}", DAYS[1])]))
        expires = self._draw(st.sampled_from(EXPIRIES[:2]))
        received = self._draw(st.integers(0, purchased + 3))
        asked: list[c.Command] = [
            c.ChangeBatchQuantity(ref, self._draw(st.integers(0, purchased + 5))),
            c.ChangeEta(ref, self._draw(st.sampled_from(DAYS))),
            c.ReceiveBatch(ref, number, received, self._draw(st.integers(0, received)), expires, rest),
            c.CountBatch(ref, self._draw(st.integers(0, shelf + 2)), shelf, number, "lost"),
            c.Quarantine(ref, self._quantity(shelf), "damaged", number),
            c.ReleaseQuarantine(ref, self._quantity(quarantined), number),
            c.WriteOff(ref, self._quantity(quarantined), "damaged", number),
            c.PullForward(self.oracle.lots[ref].sku, ref, self._draw(st.sampled_from([1, 100]))),
            c.PullForward(self.oracle.lots[ref].sku, ref),
        ]
        return self._draw(st.sampled_from(asked))

    def _of_line(self) -> c.Command:
        if not self.oracle.lines:
            return self._allocate()
        line: Line = self._draw(st.sampled_from(sorted(self.oracle.lines)))
        has = self.oracle.has(line).values()
        promised, out = sum(one for one, _ in has), sum(other for _, other in has)
        total = self.oracle.total(line)
        here = [ref for ref, lot in self.oracle.lots.items() if lot.eta is None and lot.sku == self.oracle.lines[line]]
        ref, number = self._draw(st.sampled_from([None, *here])), self._number()
        others = [other for other in self.oracle.lines if other[0] == line[0] and other != line]
        parts = [c.ParcelLine(line[1], self._quantity(promised), ref)]
        parts += [c.ParcelLine(other[1], 1) for other in others[:1] if self._draw(st.booleans())]
        asked: list[c.Command] = [
            c.ReleaseLine(*line),
            c.CancelOrder(line[0]),
            c.ChangeLine(*line, self._quantity(total + 6)),
            c.ChangeLine(*line, self._quantity(total), total),
            c.Dispatch(line[0], number, tuple(parts)),
            c.Dispatch(line[0], number, tuple(parts)),
            c.ReturnLine(*line, self._quantity(out), number, self._draw(CONDITIONS), None),
            c.ReturnLine(*line, self._quantity(out), number, "good", ref),
            c.Allocate(line[0], self.oracle.lines[line], total or 1, line[1]),
            c.PlaceOrder(line[0], (c.OrderedLine(self.oracle.lines[line], total or 1, line[1]),), "partial"),
        ]
        return self._draw(st.sampled_from(asked))


def compared(unit_of_work: Callable[[], AbstractContextManager[UnitOfWork]], oracle: Oracle) -> None:
    with unit_of_work() as uow:
        for ref, lot in oracle.lots.items():
            batch = uow.products.get_by_batchref(ref).batches[ref]
            parts = (
                batch.purchased_quantity,
                batch.available_quantity,
                batch.promised_quantity,
                batch.dispatched_quantity,
                batch.quarantined_quantity,
                batch.held_quantity,
            )
            assert (parts, batch.eta, batch.expires) == (oracle.parts(ref), lot.eta, lot.expires), ref
            assert (batch.overdue, batch.expired) == (lot.overdue, lot.expired), ref
        for orderid, lineid in oracle.lines:
            line = uow.products.line(orderid, lineid)
            has = {one.batchref: (one.promised, one.dispatched) for one in line.allocations}
            assert has == oracle.has((orderid, lineid)), (orderid, lineid)
            assert line.returned == oracle.came_back[orderid, lineid]
            assert line.waiting == oracle.waiting[orderid, lineid], (orderid, lineid)
        for sku in {lot.sku for lot in oracle.lots.values()}:
            lines = [line for key in oracle.lines if (line := uow.products.line(*key)).sku == sku and line.waiting]
            assert [line.key for line in sorted(lines, key=lambda line: line.turn)] == oracle.queue(sku)
            product = uow.products.get(sku)
            assert product.waiting == len(lines)
            assert product.hold_count == sum(key[0] == sku for key in oracle.holds)
            for key in oracle.holds:
                hold = product.holds.get(key)
                assert hold
                assert hold.qty == len(oracle.held(key))
                assert hold.batchref == oracle.held(key)[0].batch.ref


@given(st.data())
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_the_service_and_the_oracle_agree_after_each_command(data: st.DataObject) -> None:
    service, asker = Service(), Asker(data, Oracle(NOON))
    for _ in range(data.draw(st.integers(1, 40), "commands")):
        command, before = asker.next(), deepcopy(asker.oracle)
        if isinstance(command, anything.Later):
            service.now += timedelta(seconds=command.seconds)
            asker.oracle.later(command)
            compared(service.unit_of_work, asker.oracle)
            continue
        expected: object
        found: object
        try:
            expected = asker.oracle.ask(command)
        except Refused as refused:
            asker.oracle, expected = before, str(refused)
        try:
            answer = service.bus.handle(command)
            short = answer.get("shortages", ()) if isinstance(command, c.PlaceOrder) else None
            found = None if short is None else [one["lineid"] for one in short]
        except DomainError as refusal:
            found = type(refusal).__name__
        assert found == expected, command
        compared(service.unit_of_work, asker.oracle)
