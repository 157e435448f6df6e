"""The balance after each event is what the rules of the domain say, although it is reckoned from the other end."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from tests import fakes
from tests.fake_console import balance_of, held_by
from tests.replay import replay

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
from allocation.domain.errors import DomainError
from allocation.domain.events import Allocated, BatchCreated, BatchQuantityChanged, Event
from allocation.domain.product import Product
from allocation.domain.values import Condition
from allocation.views import Batch as View
from allocation.views.stock_history import Balance, Step, reckoned

LATER = date(2031, 1, 1)

refs = st.sampled_from(["b1", "b2", "b3"])
orders = st.sampled_from(["o1", "o2", "o3"])
few = st.integers(1, 9)
number = st.uuids().map(str)
asked = st.lists(
    st.one_of(
        st.builds(Allocate, number, st.just("CHAIR"), st.integers(1, 30)),
        st.builds(Allocate, orders, st.just("CHAIR"), few),
        st.builds(ChangeBatchQuantity, refs, st.integers(0, 60)),
        st.builds(ChangeEta, refs, st.just(LATER)),
        st.builds(ReceiveBatch, refs, number, few, st.integers(0, 2)),
        st.builds(ReceiveBatch, refs, number, few, rest=st.builds(Rest, number, st.just(LATER))),
        st.builds(Quarantine, refs, few, st.just("suspect"), number),
        st.builds(ReleaseQuarantine, refs, few, number),
        st.builds(WriteOff, refs, few, st.just("damaged"), number),
        st.builds(Dispatch, orders, number, st.tuples(st.builds(ParcelLine, st.just("CHAIR"), few))),
        st.builds(ReturnLine, orders, st.just("CHAIR"), few, number, st.sampled_from(get_args(Condition))),
        st.builds(ReleaseLine, orders, st.just("CHAIR")),
        st.builds(CancelOrder, orders),
        st.tuples(refs, st.integers(0, 60)),
    ),
    min_size=15,
    max_size=40,
)
"""Commands, and counts: of which batch, and what was found."""


def steps_of(history: list[object], first: int = 1) -> list[Step]:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return [
        Step(number, "", moment, None, event)  # type: ignore[arg-type]  # the log holds events
        for number, event in enumerate(history[first - 1 :], first)
    ]


def product_after(history: list[object], version: int) -> Product:
    events: list[Event] = history[:version]  # type: ignore[assignment]  # the log holds events
    return replay("CHAIR", events)


def count(service: fakes.Service, number: str, ref: str, counted: int) -> CountBatch:
    """Begun just now."""
    history = service.history("CHAIR")
    return CountBatch(ref, counted, product_after(history, len(history)).batches[ref].on_shelf, number, "correction")


def held_after(history: list[object], version: int) -> dict[str, int]:
    return {batch.reference: batch.purchased_quantity for batch in product_after(history, version).batches.of("CHAIR")}


@given(asked, st.data())
def test_each_balance_is_that_of_the_history_replayed_so_far(
    commands: list[Command | tuple[str, int]], data: st.DataObject
) -> None:
    service = fakes.Service()
    service.given(CreateBatch("b1", "CHAIR", 40), CreateBatch("b2", "CHAIR", 40, LATER), CreateBatch("b3", "CHAIR", 9))
    service.given(Allocate("o1", "CHAIR", 9), Quarantine("b1", 20, "suspect", "q1"))  # so that more is possible
    for number, one in enumerate(commands):
        with suppress(DomainError):
            service.bus.handle(count(service, f"count-{number}", *one) if isinstance(one, tuple) else one)
    history = service.history("CHAIR")
    first = data.draw(st.integers(1, len(history)), "first step")

    now = product_after(history, len(history))
    arrivals = {batch.added for batch in now.batches.of("CHAIR")}
    told = reckoned(steps_of(history, first), held_by(now), held_after(history, first - 1), arrivals)

    for step in told:
        after = balance_of(product_after(history, step.version))
        before = balance_of(product_after(history, step.version - 1))
        assert step.after == after
        assert step.change == after - before


def test_nothing_is_reckoned_past_an_event_that_cannot_be_read() -> None:
    history: list[object] = [BatchCreated("b1", "CHAIR", 10, None), None, Allocated("o1", "CHAIR", 3, "b1", "CHAIR")]

    told = reckoned(steps_of(history), [View("b1", "CHAIR", 10, 3, 7, None)], {}, ())

    assert [step.after for step in told] == [None, Balance(10, 0), Balance(7, 0)]
    assert [step.change for step in told] == [None, None, Balance(-3, 0)]


def test_nothing_is_reckoned_past_a_change_from_an_unknown_quantity() -> None:
    history: list[object] = [Allocated("o1", "CHAIR", 3, "b1", "CHAIR"), BatchQuantityChanged("b1", "CHAIR", 7)]

    told = reckoned(steps_of(history), [View("b1", "CHAIR", 7, 3, 4, None)], {}, ())

    assert [step.after for step in told] == [None, Balance(4, 0)]
