"""All that can be asked, about few names, so that commands meet."""

from __future__ import annotations

from datetime import date
from typing import Any

from hypothesis import strategies as st

from allocation.domain.commands import (
    Allocate,
    CancelOrder,
    ChangeBatchQuantity,
    ChangeEta,
    Command,
    CountBatch,
    CreateBatch,
    Dispatch,
    ParcelLine,
    Quarantine,
    ReceiveBatch,
    ReleaseLine,
    ReleaseQuarantine,
    Rest,
    ReturnLine,
    WriteOff,
)

references = st.sampled_from(["b1", "b2", "b3"])
etas = st.none() | st.sampled_from([date(2026, 1, 1), date(2026, 1, 2)])
expiries = st.none() | st.sampled_from([date(2026, 1, 1), date(2199, 12, 31)])
orders = st.sampled_from(["o1", "o2", "o3", "o4", "o5"])
numbers = st.sampled_from(["n1", "n2", "n3"])
reasons = st.sampled_from(["damaged", "lost"])
conditions = st.sampled_from(["good", "check"])


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
    of_batch: list[st.SearchStrategy[Any]] = [
        st.builds(CreateBatch, references, sku, st.integers(0, 30), etas, expiries),
        st.builds(ChangeBatchQuantity, references, st.integers(0, 30)),
        st.builds(ChangeEta, references, st.sampled_from([date(2026, 1, 1), date(2026, 1, 3)])),
        st.builds(ReceiveBatch, references, numbers, st.integers(0, 30), st.integers(0, 5), expiries, rests),
        st.builds(CountBatch, references, st.integers(0, 30), st.integers(0, 30), numbers, reasons),
        st.builds(Quarantine, references, st.integers(1, 12), reasons, numbers),
        st.builds(ReleaseQuarantine, references, st.integers(1, 12), numbers),
        st.builds(WriteOff, references, st.integers(1, 12), reasons, numbers),
    ]
    of_order: list[st.SearchStrategy[Any]] = [
        st.builds(Allocate, orders, sku, st.integers(1, 12), line_ids),
        st.builds(ReleaseLine, orders, line_ids),
        st.builds(CancelOrder, orders),
        st.builds(Dispatch, orders, numbers, parts.map(tuple)),
        st.builds(ReturnLine, orders, line_ids, st.integers(1, 12), numbers, conditions, st.none() | references),
    ]
    return st.one_of(*of_batch, *of_order)
