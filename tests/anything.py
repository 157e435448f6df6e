"""All that can be asked, about few names, so that commands meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any, get_args

from hypothesis import strategies as st

from allocation.domain.commands import (
    Allocate,
    ApplyDueDates,
    CancelOrder,
    ChangeBatchQuantity,
    ChangeEta,
    ChangeLine,
    Command,
    ConfirmHold,
    CountBatch,
    CreateBatch,
    Dispatch,
    ExtendHold,
    OrderedLine,
    ParcelLine,
    PlaceHold,
    PlaceOrder,
    PullForward,
    Quarantine,
    ReceiveBatch,
    ReleaseLine,
    ReleaseQuarantine,
    ReportShortages,
    Rest,
    ReturnLine,
    VoidHold,
    WriteOff,
)
from allocation.domain.values import Condition, Mode

references = st.sampled_from(["b1", "b2", "b3"])
etas = st.none() | st.sampled_from([date(2026, 1, 1), date(2026, 1, 2)])
expiries = st.none() | st.sampled_from([date(2026, 1, 1), date(2199, 12, 31)])
orders = st.sampled_from(["o1", "o2", "o3", "o4", "o5"])
numbers = st.sampled_from(["n1", "n2", "n3"])
reasons = st.sampled_from(["damaged", "lost"])
conditions = st.sampled_from(get_args(Condition))
locations = st.sampled_from(["", "", "hamburg", "berlin"])
priorities = st.sampled_from([5, 5, 1, 9])
days = st.none() | st.sampled_from([date(2026, 1, 1), date(2026, 3, 11), date(2026, 3, 12)])
wanted = st.none() | st.lists(st.sampled_from(["hamburg", "berlin"]), min_size=1, unique=True).map(tuple)


modes: st.SearchStrategy[Mode] = st.sampled_from(get_args(Mode))


@dataclass(frozen=True)
class Later:
    """So much time passes. No command, but it may be among them."""

    seconds: int


hold_ids = st.sampled_from(["cart", "basket", "till"])
laters = st.sampled_from([1, 30, 60, 61, 3600, 86_400, 3 * 86_400]).map(Later)


def possible(order: PlaceOrder) -> PlaceOrder:
    return replace(order, may_split=False) if order.mode == "backorder" else order


def commands(skus: list[str]) -> st.SearchStrategy[Command]:
    sku = st.sampled_from(skus)
    line_ids = st.sampled_from([*skus, "1", "2"])
    rests = st.none() | st.builds(Rest, references, st.just(date(2026, 1, 2)))
    parts = st.lists(
        st.builds(ParcelLine, line_ids, st.integers(1, 12), st.none() | references),
        min_size=1,
        max_size=2,
        unique_by=lambda part: part.lineid,
    )
    ordered = st.lists(
        st.builds(OrderedLine, sku, st.integers(1, 12), line_ids, st.none() | hold_ids),
        min_size=1,
        max_size=3,
        unique_by=lambda line: line.lineid,
    )
    of_batch: list[st.SearchStrategy[Any]] = [
        st.builds(CreateBatch, references, sku, st.integers(0, 30), etas, expiries, locations),
        st.builds(ChangeBatchQuantity, references, st.integers(0, 30)),
        st.builds(ChangeEta, references, st.sampled_from([date(2026, 1, 1), date(2026, 1, 3)])),
        st.builds(ReceiveBatch, references, numbers, st.integers(0, 30), st.integers(0, 5), expiries, rests),
        st.builds(CountBatch, references, st.integers(0, 30), st.integers(0, 30), numbers, reasons),
        st.builds(Quarantine, references, st.integers(1, 12), reasons, numbers),
        st.builds(ReleaseQuarantine, references, st.integers(1, 12), numbers),
        st.builds(WriteOff, references, st.integers(1, 12), reasons, numbers),
        st.builds(ReportShortages, sku, st.integers(1, 12), st.just(("o1, line 1",))),
    ]
    of_order: list[st.SearchStrategy[Any]] = [
        st.builds(Allocate, orders, sku, st.integers(1, 12), line_ids),
        st.builds(PlaceOrder, orders, ordered.map(tuple), modes, priorities, days, st.booleans(), wanted).map(possible),
        st.builds(PlaceOrder, orders, ordered.map(tuple), st.just("backorder")),
        st.builds(ChangeLine, orders, line_ids, st.integers(1, 20), st.none() | st.integers(1, 20)),
        st.builds(ReleaseLine, orders, line_ids),
        st.builds(CancelOrder, orders),
        st.builds(Dispatch, orders, numbers, parts.map(tuple)),
        st.builds(ReturnLine, orders, line_ids, st.integers(1, 12), numbers, conditions, st.none() | references),
    ]
    of_clock: list[st.SearchStrategy[Any]] = [
        st.builds(PlaceHold, hold_ids, sku, st.integers(1, 12), st.sampled_from([30, 60, 600])),
        st.builds(PlaceHold, hold_ids, sku, st.integers(1, 12), st.sampled_from([30, 60, 600])),
        st.builds(ConfirmHold, hold_ids, sku, st.integers(1, 12), orders, line_ids, priorities, days),
        st.builds(ExtendHold, hold_ids, sku, st.sampled_from([1, 60, 14_400])),
        st.builds(VoidHold, hold_ids, sku),
        st.builds(PullForward, sku, references, st.sampled_from([1, 2, 100])),
        st.builds(ApplyDueDates, sku, st.lists(references, unique=True).map(tuple)),
    ]
    return st.one_of(*of_batch, *of_order, *of_clock)
