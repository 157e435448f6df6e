"""Whole orders, and lines that change; the whole service in memory."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from tests.fakes import TODAY, Service
from tests.unit.test_supply import parts, unchanged

from allocation.domain import errors, events
from allocation.domain.commands import (
    Allocate,
    CancelOrder,
    ChangeBatchQuantity,
    ChangeEta,
    ChangeLine,
    CreateBatch,
    Dispatch,
    OrderedLine,
    ParcelLine,
    PlaceOrder,
    ReleaseLine,
    ReturnLine,
)
from allocation.domain.lines import PlacedLine
from allocation.domain.values import Mode

JANUARY, FEBRUARY = date(2031, 1, 1), date(2031, 2, 1)


def order(orderid: str, mode: Mode, *lines: tuple[str, int] | tuple[str, int, str], **terms: Any) -> PlaceOrder:
    """Of (SKU, quantity), known by the SKU, or by a third."""
    return PlaceOrder(orderid, tuple(OrderedLine(*line) for line in lines), mode, **terms)


def line(service: Service, orderid: str, lineid: str) -> PlacedLine:
    with service.unit_of_work() as uow:
        return uow.products.line(orderid, lineid)


def has(service: Service, orderid: str, lineid: str) -> tuple[dict[str, int], int]:
    """What is promised to a line, by batch, and how much it waits for."""
    found = line(service, orderid, lineid)
    return {one.batchref: one.promised for one in found.promises}, found.waiting


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def five(service: Service) -> Service:
    """Five lamps in one batch."""
    service.given(CreateBatch("b", "LAMP", 5))
    return service


# --- an order of 3 and 3 lamps with 5 left ----------------------------------------


def test_an_order_of_3_and_3_lamps_with_5_left_is_refused_whole(five: Service) -> None:
    answer = five.when(order("17", "all_or_nothing", ("LAMP", 3, "1"), ("LAMP", 3, "2")))

    assert answer == {
        "orderid": "17",
        "outcome": "out_of_stock",
        "shortages": [{"lineid": "2", "sku": "LAMP", "requested": 3, "taken_by_this_order": 3}],
    }
    assert five.history("LAMP")[1:] == [events.OutOfStock("17", "LAMP", 3, "2")]
    assert parts(five, "b") == (5, 5, 0, 0, 0, 0)
    assert len(five.notifications.sent) == 1
    unchanged(five, CancelOrder("17"), errors.UnknownOrder, "Unknown order 17")


def test_the_same_order_as_partial_gets_3_and_2_and_waits_for_1(five: Service) -> None:
    answer = five.when(order("17", "partial", ("LAMP", 3, "1"), ("LAMP", 3, "2")))

    assert isinstance(answer, dict)
    assert (answer["status"], answer["outcome"]) == ("open", "partly_allocated")
    assert has(five, "17", "1") == ({"b": 3}, 0)
    assert has(five, "17", "2") == ({"b": 2}, 1)
    assert five.notifications.sent == []


def test_the_same_order_as_backorder_gets_3_and_waits_for_3_while_2_stay_for_others(five: Service) -> None:
    answer = five.when(order("17", "backorder", ("LAMP", 3, "1"), ("LAMP", 3, "2")))

    assert isinstance(answer, dict)
    assert answer["outcome"] == "partly_allocated"
    assert answer["lines"][1] == {
        "lineid": "2",
        "sku": "LAMP",
        "qty": 3,
        "promises": [],
        "waiting": 3,
        "priority": 5,
        "needed_by": None,
        "returned": 0,
        "at_risk": False,
    }
    assert has(five, "17", "2") == ({}, 3)
    assert five.when(Allocate("newcomer", "LAMP", 2)) == "b"


def test_an_order_over_three_skus_of_which_one_is_short_leaves_nothing_in_the_other_two(five: Service) -> None:
    five.given(CreateBatch("s", "SOFA", 5), CreateBatch("t", "TABLE", 1))

    five.when(order("17", "all_or_nothing", ("SOFA", 2), ("LAMP", 5), ("TABLE", 2)))

    assert five.history("SOFA")[1:] == five.history("LAMP")[1:] == []
    assert five.history("TABLE")[1:] == [events.OutOfStock("17", "TABLE", 2, "TABLE")]


def test_every_short_line_is_reported_not_the_first(five: Service) -> None:
    five.given(CreateBatch("s", "SOFA", 5), CreateBatch("t", "TABLE", 1))

    answer = five.when(order("17", "all_or_nothing", ("SOFA", 6), ("LAMP", 5), ("TABLE", 2), ("LAMP", 1, "x")))

    assert isinstance(answer, dict)
    assert [one["lineid"] for one in answer["shortages"]] == ["SOFA", "TABLE", "x"]


def test_an_order_that_sells_out_two_skus_makes_two_events_one_of_each(five: Service) -> None:
    five.given(CreateBatch("s", "SOFA", 2))

    five.when(order("17", "all_or_nothing", ("SOFA", 2), ("LAMP", 5)))

    assert five.history("SOFA")[1:] == [events.Allocated("17", "SOFA", 2, "s", "SOFA", waits=True)]
    assert five.history("LAMP")[1:] == [events.Allocated("17", "LAMP", 5, "b", "LAMP", waits=True)]


# --- again, and with more ---------------------------------------------------------


def test_an_order_sent_again_is_answered_as_it_is_now_and_changes_nothing(five: Service) -> None:
    asked = order("17", "backorder", ("LAMP", 3, "1"), ("LAMP", 3, "2"))
    five.given(asked)
    five.given(CreateBatch("c", "LAMP", 3))
    events_before = five.history("LAMP")

    answer = five.when(asked)

    assert isinstance(answer, dict)
    assert answer["outcome"] == "allocated"
    assert answer["lines"][1]["promises"] == [{"batchref": "c", "qty": 3, "eta": None, "dispatched": 0}]
    assert five.history("LAMP") == events_before
    assert five.when(order("17", "partial", ("LAMP", 3, "1"), priority=9)), "whatever its other terms say"
    assert five.history("LAMP") == events_before


def test_order_17_with_other_quantity_is_refused_and_nothing_moves(five: Service) -> None:
    five.given(CreateBatch("s", "SOFA", 5), order("17", "backorder", ("LAMP", 3, "1")))

    asked = order("17", "backorder", ("SOFA", 1), ("LAMP", 2, "1"))
    unchanged(five, asked, errors.LineConflict, "Line 1 of order 17 is allocated already with 3 of LAMP")
    unchanged(five, order("17", "backorder", ("SOFA", 3, "1")), errors.LineConflict, "with 3 of LAMP")
    five.given(order("18", "backorder", ("LAMP", 9, "1")))
    waits = "Line 1 of order 18 waits already for 9 of LAMP"
    unchanged(five, order("18", "backorder", ("LAMP", 8, "1")), errors.LineConflict, waits)


def test_placing_a_known_order_with_a_line_more_adds_that_line_only(five: Service) -> None:
    five.given(order("17", "backorder", ("LAMP", 3, "1")))

    answer = five.when(order("17", "backorder", ("LAMP", 3, "1"), ("LAMP", 1, "2")))

    assert isinstance(answer, dict)
    assert [one["lineid"] for one in answer["lines"]] == ["1", "2"]
    assert five.history("LAMP")[2:] == [events.Allocated("17", "LAMP", 1, "b", "2", waits=True)]


def test_an_order_with_a_sku_that_was_never_purchased_is_refused_whole(five: Service) -> None:
    unchanged(five, order("17", "partial", ("LAMP", 3), ("LMAP", 1)), errors.InvalidSku, "Invalid sku LMAP")


def test_a_cancelled_order_gets_no_line_more(five: Service) -> None:
    five.given(order("17", "backorder", ("LAMP", 3, "1")), CancelOrder("17"))

    unchanged(five, order("17", "backorder", ("LAMP", 3, "1")), errors.OrderIsCancelled, "Order 17 is cancelled")


def test_a_line_that_was_released_is_placed_anew_and_waits_behind_those_who_waited(five: Service) -> None:
    five.given(order("17", "backorder", ("LAMP", 6)), order("18", "backorder", ("LAMP", 7)), ReleaseLine("17", "LAMP"))

    five.given(order("17", "backorder", ("LAMP", 7)), CreateBatch("c", "LAMP", 7))

    assert has(five, "18", "LAMP") == ({"c": 7}, 0)
    assert has(five, "17", "LAMP") == ({}, 7)


def test_a_line_released_after_a_part_had_left_needs_another_lineid(five: Service) -> None:
    five.given(order("17", "backorder", ("LAMP", 5)), Dispatch("17", "d", (ParcelLine("LAMP", 3),)))
    five.given(ReleaseLine("17", "LAMP"))

    unchanged(five, order("17", "backorder", ("LAMP", 5)), errors.LineConflict, "use another lineid")


# --- split ------------------------------------------------------------------------


@pytest.fixture
def two(service: Service) -> Service:
    """Five lamps here, and six on a ship."""
    service.given(CreateBatch("here", "LAMP", 5), CreateBatch("ship", "LAMP", 6, JANUARY))
    return service


def test_a_line_of_8_from_5_and_6_if_it_may_be_split(two: Service) -> None:
    two.when(order("17", "all_or_nothing", ("LAMP", 8), may_split=True))

    assert has(two, "17", "LAMP") == ({"here": 5, "ship": 3}, 0)


def test_and_not_otherwise(two: Service) -> None:
    two.when(order("17", "all_or_nothing", ("LAMP", 8)))

    assert two.history("LAMP")[2:] == [events.OutOfStock("17", "LAMP", 8, "LAMP")]


def test_a_line_that_may_be_split_is_not_where_one_batch_has_all_of_it(two: Service) -> None:
    two.when(order("17", "partial", ("LAMP", 6)))

    assert has(two, "17", "LAMP") == ({"ship": 6}, 0)


def test_of_a_line_that_may_be_split_no_more_is_broken_than_must_be(two: Service) -> None:
    two.given(order("17", "partial", ("LAMP", 8)))

    two.when(ChangeBatchQuantity("here", 4))

    assert has(two, "17", "LAMP") == ({"here": 4, "ship": 4}, 0)
    assert [event for event in two.history("LAMP") if isinstance(event, events.Deallocated)] == [
        events.Deallocated("17", "LAMP", 1, "here", "LAMP")
    ]


# --- the terms --------------------------------------------------------------------


def test_nothing_is_promised_that_comes_after_the_day_on_which_it_is_needed(service: Service) -> None:
    service.given(CreateBatch("ship", "LAMP", 6, FEBRUARY))

    service.given(order("17", "backorder", ("LAMP", 2), needed_by=JANUARY))
    service.given(order("18", "backorder", ("LAMP", 2), needed_by=FEBRUARY))

    assert has(service, "17", "LAMP") == ({}, 2)
    assert has(service, "18", "LAMP") == ({"ship": 2}, 0)


def test_an_overdue_batch_comes_today_at_the_earliest(service: Service) -> None:
    service.given(CreateBatch("late", "LAMP", 6, date(2026, 3, 1)))

    service.given(order("17", "backorder", ("LAMP", 2), needed_by=date(2026, 3, 10)))
    service.given(order("18", "backorder", ("LAMP", 2), needed_by=TODAY))

    assert has(service, "17", "LAMP") == ({}, 2), "yesterday"
    assert has(service, "18", "LAMP") == ({"late": 2}, 0)


def test_the_first_location_is_preferred_before_anything_else_and_others_do_not_count(service: Service) -> None:
    service.given(
        CreateBatch("nowhere", "LAMP", 9),
        CreateBatch("in berlin", "LAMP", 5, location="berlin"),
        CreateBatch("to hamburg", "LAMP", 5, JANUARY, location="hamburg"),
    )

    service.given(order("17", "backorder", ("LAMP", 5), locations=("hamburg", "berlin")))
    service.given(order("18", "backorder", ("LAMP", 5), locations=("hamburg", "berlin")))
    service.given(order("19", "backorder", ("LAMP", 5), locations=("hamburg", "berlin")))
    service.given(order("20", "backorder", ("LAMP", 5)))

    assert has(service, "17", "LAMP") == ({"to hamburg": 5}, 0)
    assert has(service, "18", "LAMP") == ({"in berlin": 5}, 0)
    assert has(service, "19", "LAMP") == ({}, 5)
    assert has(service, "20", "LAMP") == ({"nowhere": 5}, 0)


def test_of_the_lowest_priority_the_newest_promise_is_broken_first(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 9))
    service.given(*(order(name, "backorder", ("LAMP", 3), priority=level) for name, level in (("a", 1), ("b", 9))))
    service.given(Allocate("c", "LAMP", 3))

    service.when(ChangeBatchQuantity("b", 6))
    assert has(service, "a", "LAMP") == ({}, 3)
    service.when(ChangeBatchQuantity("b", 3))
    assert [type(event).__name__ for event in service.history("LAMP")[-2:]] == ["Deallocated", "OutOfStock"]
    assert has(service, "b", "LAMP") == ({"b": 3}, 0)


# --- a line that changes ----------------------------------------------------------


@pytest.fixture
def eight(service: Service) -> Service:
    """A line of 8 where 3 more are available, and 12 on a ship."""
    service.given(CreateBatch("in-stock", "LAMP", 11), CreateBatch("by-ship", "LAMP", 12, JANUARY))
    service.given(order("17", "all_or_nothing", ("LAMP", 8, "1")))
    return service


def test_a_line_from_8_to_10_grows_where_it_is(eight: Service) -> None:
    version = line(eight, "17", "1").allocations[0].version

    eight.when(ChangeLine("17", "1", 10, expected=8))

    assert has(eight, "17", "1") == ({"in-stock": 10}, 0)
    assert eight.history("LAMP")[3:] == [events.Allocated("17", "LAMP", 2, "in-stock", "1", waits=True)]
    assert line(eight, "17", "1").allocations[0].version == version, "a promise that grows keeps its age"


def test_to_12_it_moves_whole(eight: Service) -> None:
    eight.when(ChangeLine("17", "1", 12))

    assert eight.history("LAMP")[3:] == [
        events.LineReleased("17", "LAMP", 8, "in-stock", "1", "moved"),
        events.Allocated("17", "LAMP", 12, "by-ship", "1", waits=True),
    ]


def test_to_200_it_is_refused_and_keeps_its_8(eight: Service) -> None:
    unchanged(eight, ChangeLine("17", "1", 200), errors.NoRoom, "192 more .* at most 12 are available in one batch")
    assert has(eight, "17", "1") == ({"in-stock": 8}, 0)


def test_a_line_that_may_be_split_grows_by_parts_and_waits_for_the_rest(eight: Service) -> None:
    eight.given(order("18", "partial", ("LAMP", 3, "1")))

    eight.when(ChangeLine("18", "1", 20))

    assert has(eight, "18", "1") == ({"in-stock": 3, "by-ship": 12}, 5)


def test_a_line_that_shrinks_gives_back_what_waits_and_then_what_is_preferred_least(eight: Service) -> None:
    eight.given(order("18", "partial", ("LAMP", 20, "1")))
    assert has(eight, "18", "1") == ({"in-stock": 3, "by-ship": 12}, 5)

    eight.when(ChangeLine("18", "1", 16))
    assert has(eight, "18", "1") == ({"in-stock": 3, "by-ship": 12}, 1)
    eight.when(ChangeLine("18", "1", 2))
    assert has(eight, "18", "1") == ({"in-stock": 2}, 0)
    assert eight.history("LAMP")[-2:] == [
        events.LineReleased("18", "LAMP", 12, "by-ship", "1", "changed"),
        events.LineReleased("18", "LAMP", 1, "in-stock", "1", "changed"),
    ]


def test_a_line_below_what_has_left_is_refused_and_says_at_least_5(eight: Service) -> None:
    eight.given(Dispatch("17", "d", (ParcelLine("1", 5),)), ReturnLine("17", "1", 1, "r", "good"))

    unchanged(eight, ChangeLine("17", "1", 4), errors.BelowDispatched, "at least 5: 4 dispatched [+] 1 returned")
    eight.when(ChangeLine("17", "1", 5))
    assert has(eight, "17", "1") == ({}, 0)


def test_a_line_that_was_changed_meanwhile_is_not_changed(eight: Service) -> None:
    unchanged(eight, ChangeLine("17", "1", 4, expected=7), errors.StaleQuantity, "is of 8 now, not 7")
    unchanged(eight, ChangeLine("17", "2", 4), errors.UnknownLine, "Unknown line 2 of order 17")
    assert eight.when(ChangeLine("17", "1", 8)) == {}


def test_a_line_that_waits_as_a_whole_waits_for_more_at_its_place(eight: Service) -> None:
    eight.given(order("18", "backorder", ("LAMP", 13)), order("19", "backorder", ("LAMP", 13)))

    eight.when(ChangeLine("18", "LAMP", 14))
    assert has(eight, "18", "LAMP") == ({}, 14)
    eight.when(CreateBatch("b", "LAMP", 14))
    assert has(eight, "18", "LAMP") == ({"b": 14}, 0)


def test_a_waiting_line_reduced_from_8_to_2_is_served_at_once_where_2_are_left(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 2), order("18", "backorder", ("LAMP", 8)))

    service.when(ChangeLine("18", "LAMP", 2))

    assert has(service, "18", "LAMP") == ({"b": 2}, 0)
    assert service.history("LAMP")[2:] == [
        events.LineReleased("18", "LAMP", 6, None, "LAMP", "changed"),
        events.Allocated("18", "LAMP", 2, "b", "LAMP", waits=True, waited=True),
    ]


def test_a_line_of_which_nothing_is_left_is_placed_again_and_not_changed(eight: Service) -> None:
    eight.given(ReleaseLine("17", "1"))

    unchanged(eight, ChangeLine("17", "1", 3), errors.NoRoom, "which has 0: place it again")


def test_a_line_of_a_cancelled_order_does_not_grow(eight: Service) -> None:
    eight.given(Dispatch("17", "d", (ParcelLine("1", 5),)), CancelOrder("17"))

    unchanged(eight, ChangeLine("17", "1", 9), errors.OrderIsCancelled, "Order 17 is cancelled")


def test_what_a_line_that_shrinks_gives_back_goes_to_those_who_wait(eight: Service) -> None:
    eight.given(order("18", "backorder", ("LAMP", 13)), Allocate("19", "LAMP", 12))

    eight.given(CreateBatch("b", "LAMP", 5), order("20", "backorder", ("LAMP", 6)))
    eight.when(ChangeLine("17", "1", 5))

    assert has(eight, "20", "LAMP") == ({"in-stock": 6}, 0)


# --- a line that moves keeps its turn and its terms ---------------------------------


def test_a_line_that_moved_goes_back_to_its_old_place(service: Service) -> None:
    service.given(CreateBatch("a", "LAMP", 8), CreateBatch("ship", "LAMP", 12, JANUARY))
    service.given(order("early", "backorder", ("LAMP", 8)), order("late", "backorder", ("LAMP", 13)))

    service.given(ChangeLine("early", "LAMP", 12))
    assert has(service, "early", "LAMP") == ({"ship": 12}, 0)
    service.given(ChangeBatchQuantity("ship", 0), ChangeBatchQuantity("a", 13))

    assert has(service, "early", "LAMP") == ({"a": 12}, 0)
    assert line(service, "early", "LAMP").since == 3
    assert has(service, "late", "LAMP") == ({}, 13)


def test_a_line_whose_parcel_was_picked_elsewhere_keeps_its_turn(service: Service) -> None:
    service.given(CreateBatch("a", "LAMP", 8), CreateBatch("b", "LAMP", 8), order("17", "backorder", ("LAMP", 8)))

    service.given(Dispatch("17", "d", (ParcelLine("LAMP", 8, "b"),)))

    assert line(service, "17", "LAMP").since == 3
    assert line(service, "17", "LAMP").terms.waits


def test_a_line_that_was_broken_twice_still_has_its_turn(service: Service) -> None:
    service.given(CreateBatch("a", "LAMP", 8), CreateBatch("b", "LAMP", 8), order("17", "backorder", ("LAMP", 8)))

    service.given(ChangeBatchQuantity("a", 0), ChangeBatchQuantity("b", 0))

    assert service.history("LAMP")[-1] == events.Backordered("17", "LAMP", 8, "LAMP", 3)


def test_a_broken_line_goes_only_where_its_terms_allow(service: Service) -> None:
    service.given(
        CreateBatch("here", "LAMP", 8, location="hamburg"),
        CreateBatch("late", "LAMP", 8, FEBRUARY, location="hamburg"),
        CreateBatch("far", "LAMP", 8, location="berlin"),
        CreateBatch("few", "LAMP", 3, location="hamburg"),
    )
    terms = {"needed_by": JANUARY, "locations": ("hamburg",)}
    service.given(order("17", "partial", ("LAMP", 8), **terms))

    service.given(ChangeBatchQuantity("here", 0))

    assert has(service, "17", "LAMP") == ({"few": 3}, 5)


def test_what_a_line_waits_for_more_has_its_old_turn(service: Service) -> None:
    service.given(
        CreateBatch("a", "LAMP", 2), order("17", "backorder", ("LAMP", 8)), order("18", "partial", ("LAMP", 9))
    )

    service.given(ChangeLine("17", "LAMP", 9), ChangeLine("18", "LAMP", 10))

    waits = [event for event in service.history("LAMP") if isinstance(event, events.Backordered)]
    assert [(event.orderid, event.qty, event.since) for event in waits] == [
        ("17", 8, 2),
        ("18", 7, 3),
        ("17", 1, 2),
        ("18", 1, 3),
    ]


def test_a_line_that_came_back_whole_is_not_placed_again_and_may_grow(five: Service) -> None:
    five.given(order("17", "backorder", ("LAMP", 5)), Dispatch("17", "d", (ParcelLine("LAMP", 5),)))
    five.given(ReturnLine("17", "LAMP", 5, "r", "good"))

    unchanged(five, order("17", "backorder", ("LAMP", 5)), errors.LineConflict, "all 5 of LAMP came back: use another")
    five.given(ChangeLine("17", "LAMP", 8))

    assert has(five, "17", "LAMP") == ({"b": 3}, 0)
    assert line(five, "17", "LAMP").returned == 5


def test_a_line_does_not_grow_where_its_goods_come_too_late_by_now(service: Service) -> None:
    service.given(CreateBatch("ship", "LAMP", 9, JANUARY), order("17", "backorder", ("LAMP", 3), needed_by=JANUARY))
    service.given(ChangeEta("ship", FEBRUARY), CreateBatch("other", "LAMP", 5, JANUARY))

    service.given(ChangeLine("17", "LAMP", 5))

    assert has(service, "17", "LAMP") == ({"other": 5}, 0)


def test_a_line_that_is_split_grows_in_the_preferred_of_its_batches(two: Service) -> None:
    two.given(order("17", "partial", ("LAMP", 8)), ChangeBatchQuantity("here", 9), ChangeBatchQuantity("ship", 9))

    two.given(ChangeLine("17", "LAMP", 10))

    assert has(two, "17", "LAMP") == ({"here": 7, "ship": 3}, 0)


def test_a_line_that_is_split_moves_as_a_whole_where_all_of_it_fits(two: Service) -> None:
    two.given(order("17", "partial", ("LAMP", 8)), Allocate("18", "LAMP", 3), CreateBatch("new", "LAMP", 10, FEBRUARY))

    two.given(ChangeLine("17", "LAMP", 10))

    assert has(two, "17", "LAMP") == ({"new": 10}, 0)


def test_a_line_that_waits_past_its_day_is_at_risk(service: Service) -> None:
    service.given(CreateBatch("a", "LAMP", 0))

    for needed_by, is_at_risk in ((date(2026, 3, 10), True), (TODAY, False)):
        answer = service.when(order(f"o {needed_by}", "backorder", ("LAMP", 1), needed_by=needed_by))
        assert isinstance(answer, dict)
        assert answer["lines"][0]["at_risk"] == is_at_risk


def test_an_order_of_which_one_line_waits_and_another_has_left_can_be_cancelled(five: Service) -> None:
    five.given(order("17", "backorder", ("LAMP", 5, "1"), ("LAMP", 5, "2")), Dispatch("17", "d", (ParcelLine("1", 5),)))

    five.given(CancelOrder("17"))

    assert five.history("LAMP")[-1] == events.LineReleased("17", "LAMP", 5, None, "2", "cancelled")
