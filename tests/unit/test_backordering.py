"""Who waits, and who is served when; the whole service in memory."""

from __future__ import annotations

from datetime import date

import pytest
from tests.fakes import Service
from tests.unit.test_placing import has, order

from allocation.domain import commands, events
from allocation.domain.commands import (
    Allocate,
    CancelOrder,
    ChangeBatchQuantity,
    ChangeEta,
    ChangeLine,
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
)
from allocation.domain.errors import LineConflict

JANUARY, FEBRUARY = date(2031, 1, 1), date(2031, 2, 1)


@pytest.fixture
def service() -> Service:
    """Anna waits for 8 lamps since Monday, Ben for 5 since Tuesday."""
    service = Service()
    service.given(CreateBatch("none", "LAMP", 0))
    service.given(order("anna", "backorder", ("LAMP", 8)), order("ben", "backorder", ("LAMP", 5)))
    return service


def test_anna_8_before_ben_5_when_10_arrive(service: Service) -> None:
    service.when(CreateBatch("b", "LAMP", 10))

    assert has(service, "anna", "LAMP") == ({"b": 8}, 0)
    assert has(service, "ben", "LAMP") == ({}, 5)
    assert service.history("LAMP")[-1] == events.Allocated("anna", "LAMP", 8, "b", "LAMP", waits=True, waited=True)
    assert service.allocations == {"anna": "b"}


def test_3_more_in_the_same_batch_are_bens_and_4_in_another_are_a_newcomers(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 10), CreateBatch("c", "LAMP", 4))
    assert service.when(Allocate("newcomer", "LAMP", 4)) == "c"
    assert has(service, "ben", "LAMP") == ({}, 5)

    service.when(ChangeBatchQuantity("b", 13))

    assert has(service, "ben", "LAMP") == ({"b": 5}, 0)


def test_who_does_not_fit_waits_on_and_those_behind_are_served(service: Service) -> None:
    service.when(CreateBatch("b", "LAMP", 6))

    assert has(service, "anna", "LAMP") == ({}, 8)
    assert has(service, "ben", "LAMP") == ({"b": 5}, 0)


def test_priority_9_is_served_before_an_older_5_and_takes_nothing_promised(service: Service) -> None:
    service.given(order("cleo", "backorder", ("LAMP", 7), priority=9))

    service.given(CreateBatch("b", "LAMP", 8))
    assert has(service, "cleo", "LAMP") == ({"b": 7}, 0)
    service.given(CreateBatch("c", "LAMP", 8), order("dora", "backorder", ("LAMP", 3), priority=9))
    assert has(service, "anna", "LAMP") == ({"c": 8}, 0)


def test_a_broken_line_waits_at_its_old_place_before_those_who_came_later(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 8), order("late", "backorder", ("LAMP", 8)))

    service.when(ChangeBatchQuantity("b", 7))

    assert has(service, "anna", "LAMP") == ({}, 8)
    assert has(service, "ben", "LAMP") == ({"b": 5}, 0), "who fits what is left"
    service.when(CreateBatch("c", "LAMP", 8))
    assert has(service, "anna", "LAMP") == ({"c": 8}, 0)
    assert service.history("LAMP")[-4:-2] == [
        events.Backordered("anna", "LAMP", 8, "LAMP", 2),
        events.Allocated("ben", "LAMP", 5, "b", "LAMP", waits=True, waited=True),
    ]


def test_who_lost_a_promise_goes_before_who_never_had_one(service: Service) -> None:
    """Also onto what brings the rest, which is there first."""
    service.given(ChangeLine("anna", "LAMP", 20), ChangeLine("ben", "LAMP", 20))
    service.given(CreateBatch("ship", "LAMP", 19, JANUARY), Allocate("paul", "LAMP", 12))
    service.given(ChangeLine("ben", "LAMP", 9))

    service.when(ReceiveBatch("ship", "r", 4, rest=Rest("later", FEBRUARY)))

    assert service.allocations == {"paul": "later"}
    assert has(service, "ben", "LAMP") == ({}, 9)


def test_what_is_missing_for_good_sends_the_newest_to_the_queue_at_their_old_place(service: Service) -> None:
    service.given(CreateBatch("ship", "LAMP", 13, JANUARY), order("cleo", "backorder", ("LAMP", 5)))
    assert has(service, "ben", "LAMP") == ({"ship": 5}, 0)

    service.when(ReceiveBatch("ship", "r", 8))

    assert has(service, "ben", "LAMP") == ({}, 5)
    service.when(CreateBatch("c", "LAMP", 5))
    assert has(service, "ben", "LAMP") == ({"c": 5}, 0)
    assert has(service, "cleo", "LAMP") == ({}, 5)


def test_110_of_100_arrive_and_the_queue_gets_the_10() -> None:
    service = Service()
    service.given(CreateBatch("ship", "LAMP", 100, JANUARY), Allocate("all", "LAMP", 100))
    service.given(order("anna", "backorder", ("LAMP", 8)), order("ben", "partial", ("LAMP", 8)))

    service.when(ReceiveBatch("ship", "r", 110))

    assert has(service, "anna", "LAMP") == ({"ship": 8}, 0)
    assert has(service, "ben", "LAMP") == ({"ship": 2}, 6)


def test_a_newcomer_gets_nothing_that_somebody_who_waits_could_use(service: Service) -> None:
    service.given(order("cleo", "partial", ("LAMP", 3)))
    service.given(CreateBatch("b", "LAMP", 2))

    assert service.when(Allocate("newcomer", "LAMP", 1)) is None
    assert has(service, "cleo", "LAMP") == ({"b": 2}, 1)


def test_allocating_a_line_that_waits_is_refused_and_not_said_to_be_out_of_stock_or_allocated(service: Service) -> None:
    before = service.history("LAMP")

    with pytest.raises(LineConflict, match="waits already for 8 of LAMP"):
        service.when(Allocate("anna", "LAMP", 8))
    assert service.history("LAMP") == before

    service.given(CreateBatch("some", "SOFA", 5), order("ida", "partial", ("SOFA", 8)))
    with pytest.raises(LineConflict, match="allocated already with 8 of SOFA, of which 3 wait"):
        service.when(Allocate("ida", "SOFA", 8))


@pytest.mark.parametrize("given_up", [ReleaseLine("anna", "LAMP"), CancelOrder("anna")])
def test_who_gives_up_waits_no_more(service: Service, given_up: commands.Command) -> None:
    service.when(given_up)

    released = service.history("LAMP")[-1]
    assert isinstance(released, events.LineReleased)
    assert (released.qty, released.batchref) == (8, None)
    service.when(CreateBatch("b", "LAMP", 12))
    assert has(service, "anna", "LAMP") == ({}, 0)
    assert has(service, "ben", "LAMP") == ({"b": 5}, 0)


def test_who_waits_for_another_day_or_place_is_passed_over() -> None:
    service = Service()
    service.given(
        CreateBatch("none", "LAMP", 0),
        order("soon", "backorder", ("LAMP", 5), needed_by=JANUARY),
        order("near", "backorder", ("LAMP", 5), locations=("hamburg",)),
        order("any", "backorder", ("LAMP", 5)),
    )

    service.given(CreateBatch("b", "LAMP", 5, FEBRUARY, location="berlin"))
    assert has(service, "any", "LAMP") == ({"b": 5}, 0)
    service.given(CreateBatch("c", "LAMP", 5, FEBRUARY, location="hamburg"))
    assert has(service, "near", "LAMP") == ({"c": 5}, 0)
    service.given(CreateBatch("d", "LAMP", 5, FEBRUARY))
    assert has(service, "soon", "LAMP") == ({}, 5)
    service.given(ChangeEta("d", JANUARY))
    assert has(service, "soon", "LAMP") == ({"d": 5}, 0), "an ETA that comes earlier serves those who could not wait"


def freed(batch: int = 5) -> Service:
    """A batch of five lamps, all of them promised; one who waits for three."""
    service = Service()
    service.given(CreateBatch("b", "LAMP", batch), Allocate("o", "LAMP", batch), order("w", "backorder", ("LAMP", 3)))
    return service


@pytest.mark.parametrize(
    "frees",
    [
        [CreateBatch("c", "LAMP", 3)],
        [ChangeBatchQuantity("b", 8)],
        [ReceiveBatch("b", "r", 3)],
        [CountBatch("b", 8, 5, "c", "found")],
        [ReleaseLine("o", "LAMP")],
        [CancelOrder("o")],
        [ChangeLine("o", "LAMP", 2)],
        [Dispatch("o", "d", (ParcelLine("LAMP", 5),)), ReturnLine("o", "LAMP", 3, "r", "good")],
        [Quarantine("b", 3, "suspect", "q"), ReleaseQuarantine("b", 3, "q")],
    ],
)
def test_whatever_frees_stock_serves_those_who_wait(frees: list[commands.Command]) -> None:
    service = freed()

    service.given(*frees)

    assert has(service, "w", "LAMP")[1] == 0


def test_goods_that_were_picked_from_another_batch_free_those_that_were_promised() -> None:
    service = freed()
    service.given(CreateBatch("c", "LAMP", 2), ReleaseLine("w", "LAMP"))
    service.given(Allocate("x", "LAMP", 2), order("w", "backorder", ("LAMP", 2)))

    service.when(Dispatch("x", "d", (ParcelLine("LAMP", 2, "b"),)))

    assert service.history("LAMP")[-1] == events.Allocated("w", "LAMP", 2, "b", "LAMP", waits=True, waited=True)


def test_an_order_of_several_skus_takes_its_place_in_each_queue() -> None:
    service = Service()
    service.given(CreateBatch("l", "LAMP", 0), CreateBatch("s", "SOFA", 0))
    service.given(order("anna", "backorder", ("LAMP", 2), ("SOFA", 2)), order("ben", "backorder", ("SOFA", 2)))

    service.when(ChangeBatchQuantity("s", 2))

    assert has(service, "anna", "SOFA") == ({"s": 2}, 0)
    assert has(service, "anna", "LAMP") == ({}, 2)
    assert has(service, "ben", "SOFA") == ({}, 2)


def test_who_is_served_from_several_batches_has_what_it_would_choose() -> None:
    service = Service()
    service.given(CreateBatch("x", "LAMP", 3, location="berlin"), CreateBatch("y", "LAMP", 5, location="hamburg"))
    service.given(order("o", "all_or_nothing", ("LAMP", 3, "1"), ("LAMP", 5, "2")))
    service.given(
        order("whole", "partial", ("LAMP", 5)),
        order("near", "backorder", ("LAMP", 3), locations=("hamburg", "berlin")),
    )

    service.when(CancelOrder("o"))
    assert has(service, "whole", "LAMP") == ({"y": 5}, 0), "whole, and not in parts of both"
    assert has(service, "near", "LAMP") == ({"x": 3}, 0)

    service.given(ReleaseLine("near", "LAMP"), Allocate("p", "LAMP", 3))
    service.given(order("near", "backorder", ("LAMP", 3), locations=("hamburg", "berlin")))
    service.given(CreateBatch("z", "LAMP", 0))
    service.given(order("q", "partial", ("LAMP", 1)), ReleaseLine("q", "LAMP"))
    service.when(CancelOrder("whole"))
    assert has(service, "near", "LAMP") == ({"y": 3}, 0)
