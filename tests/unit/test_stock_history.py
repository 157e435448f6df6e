"""The balance after each event is what the rules of the domain say, although it is reckoned from the other end."""

from __future__ import annotations

from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st
from tests import fakes
from tests.fake_console import balance_of, held_by

from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch
from allocation.domain.events import Allocated, BatchCreated, BatchQuantityChanged, Event
from allocation.domain.product import Product
from allocation.views import Batch as View
from allocation.views.stock_history import Balance, Step, reckoned

LATER = date(2031, 1, 1)

asked = st.lists(
    st.one_of(
        st.builds(Allocate, st.uuids().map(str), st.just("CHAIR"), st.integers(1, 30)),
        st.builds(ChangeBatchQuantity, st.sampled_from(["b1", "b2", "b3"]), st.integers(0, 60)),
    ),
    max_size=30,
)


def steps_of(history: list[object], first: int = 1) -> list[Step]:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return [
        Step(number, "", moment, None, event)  # type: ignore[arg-type]  # the log holds events
        for number, event in enumerate(history[first - 1 :], first)
    ]


def product_after(history: list[object], version: int) -> Product:
    events: list[Event] = history[:version]  # type: ignore[assignment]  # the log holds events
    return Product.replay("CHAIR", events)


def held_after(history: list[object], version: int) -> dict[str, int]:
    return {batch.reference: batch.purchased_quantity for batch in product_after(history, version).batches.of("CHAIR")}


@given(asked, st.data())
def test_each_balance_is_that_of_the_history_replayed_so_far(commands: list[Command], data: st.DataObject) -> None:
    service = fakes.Service()
    service.given(CreateBatch("b1", "CHAIR", 40), CreateBatch("b2", "CHAIR", 40, LATER), CreateBatch("b3", "CHAIR", 9))
    service.given(*commands)
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
