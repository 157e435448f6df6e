"""How orders are cancelled, leave in parcels and come back; the whole service in memory."""

from __future__ import annotations

from datetime import date

import pytest
from tests.fakes import Service
from tests.unit.test_supply import batch, parts, promised, unchanged

from allocation.domain import errors, events
from allocation.domain.commands import (
    Allocate,
    CancelOrder,
    ChangeBatchQuantity,
    CreateBatch,
    Dispatch,
    ParcelLine,
    Quarantine,
    ReleaseLine,
    ReturnLine,
)
from allocation.domain.lines import PlacedLine

JANUARY = date(2031, 1, 1)


@pytest.fixture
def service() -> Service:
    return Service()


def line(service: Service, orderid: str, lineid: str) -> PlacedLine:
    with service.unit_of_work() as uow:
        return uow.products.line(orderid, lineid)


def parcel(orderid: str, number: str, *lines: tuple[str, int] | tuple[str, int, str]) -> Dispatch:
    return Dispatch(orderid, number, tuple(ParcelLine(*each) for each in lines))


# --- given back ----------------------------------------------------------------


def test_a_line_that_is_released_gives_back_what_has_not_left(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 12), Allocate("o1", "LAMP", 11, "1"), parcel("o1", "d-1", ("1", 3)))

    service.when(ReleaseLine("o1", "1"))
    service.when(ReleaseLine("o1", "1"))

    assert service.history("LAMP")[3:] == [events.LineReleased("o1", "LAMP", 8, "b", "1", "released")]
    assert parts(service, "b") == (12, 9, 0, 0, 3, 0)
    unchanged(service, ReleaseLine("o1", "2"), errors.UnknownLine, "Unknown line 2 of order o1")


def test_release_and_allocate_again(service: Service) -> None:
    """Ten times; at the end every number is as it was."""
    service.given(CreateBatch("b", "LAMP", 12), CreateBatch("s", "SOFA", 5), Allocate("o1", "LAMP", 5, "1"))

    for _ in range(10):
        service.when(ReleaseLine("o1", "1"))
        assert service.when(Allocate("o1", "LAMP", 5, "1")) == "b"
    service.when(ReleaseLine("o1", "1"))
    assert service.when(Allocate("o1", "SOFA", 2, "1")) == "s", "as another SKU, too"
    service.when(ReleaseLine("o1", "1"))
    assert service.when(Allocate("o1", "LAMP", 5, "1")) == "b"

    assert parts(service, "b") == (12, 7, 5, 0, 0, 0)
    assert parts(service, "s") == (5, 5, 0, 0, 0, 0)


def test_a_line_of_which_something_has_left_is_not_begun_anew(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 12), Allocate("o1", "LAMP", 5, "1"), parcel("o1", "d-1", ("1", 3)))
    service.given(ReleaseLine("o1", "1"))

    unchanged(service, Allocate("o1", "LAMP", 5, "1"), errors.LineConflict, "of which 3 have left: use another lineid")
    service.given(ReturnLine("o1", "1", 3, "r-1", "good"))
    unchanged(service, Allocate("o1", "LAMP", 3, "1"), errors.LineConflict, "all 3 of LAMP came back: use another")


def test_cancel_after_one_of_three_parcels_releases_two(service: Service) -> None:
    service.given(CreateBatch("a", "A", 5), CreateBatch("b", "B", 5), CreateBatch("c", "C", 5))
    service.given(*(Allocate("o30", sku, 5) for sku in "ABC"), parcel("o30", "d-1", ("A", 5)))

    assert service.when(CancelOrder("o30")) == {"A": 4, "B": 3, "C": 3}

    assert service.history("A")[3:] == [events.OrderCancelled("o30", "A")]
    for sku in "BC":
        assert service.history(sku)[2:] == [
            events.OrderCancelled("o30", sku),
            events.LineReleased("o30", sku, 5, sku.lower(), sku, "cancelled"),
        ]
    assert [parts(service, ref)[:5] for ref in "abc"] == [(5, 0, 0, 0, 5), (5, 5, 0, 0, 0), (5, 5, 0, 0, 0)]


def test_cancelling_again_changes_nothing(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), Allocate("o1", "LAMP", 5), CancelOrder("o1"))
    version = len(service.history("LAMP"))

    assert service.when(CancelOrder("o1")) == {}

    assert len(service.history("LAMP")) == version


def test_allocating_to_a_cancelled_order_is_refused(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), CreateBatch("s", "SOFA", 5), Allocate("o1", "LAMP", 5))
    service.given(CancelOrder("o1"))

    for again in (Allocate("o1", "LAMP", 5), Allocate("o1", "LAMP", 1, "another"), Allocate("o1", "SOFA", 1)):
        unchanged(service, again, errors.OrderIsCancelled, "Order o1 is cancelled")


def test_what_is_left_of_a_cancelled_order_can_be_neither_dispatched_nor_lost(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), Allocate("o1", "LAMP", 5), parcel("o1", "d-1", ("LAMP", 2)))
    service.given(CancelOrder("o1"))

    unchanged(service, parcel("o1", "d-2", ("LAMP", 1)), errors.NotEnough, "2 ordered − 2 dispatched = 0 promised")
    service.when(ReturnLine("o1", "LAMP", 2, "r-1", "good"))
    assert parts(service, "b") == (5, 5, 0, 0, 0, 0)


def test_an_order_that_all_of_has_left_is_complete(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), Allocate("o1", "LAMP", 5), parcel("o1", "d-1", ("LAMP", 5)))

    unchanged(service, CancelOrder("o1"), errors.OrderIsComplete, "All 5 of order o1 have left")
    unchanged(service, CancelOrder("o2"), errors.UnknownOrder, "Unknown order o2")

    service.given(ReturnLine("o1", "LAMP", 5, "r-1", "good"))
    assert service.when(CancelOrder("o1")) == {"LAMP": 5}, "all of it came back"


def test_order_17_sent_again_after_a_timeout_has_still_10_units_in_the_same_batch(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 20), Allocate("o17", "LAMP", 10), parcel("o17", "d-1", ("LAMP", 4)))
    service.given(ReturnLine("o17", "LAMP", 1, "r-1", "good"))

    assert service.when(Allocate("o17", "LAMP", 10)) == "b"

    assert line(service, "o17", "LAMP").qty == 10
    unchanged(service, Allocate("o17", "LAMP", 9), errors.LineConflict, "with 10 of LAMP")


def test_an_order_that_has_lost_all_it_had_can_be_cancelled(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), Allocate("o1", "LAMP", 5), ChangeBatchQuantity("b", 0))
    assert isinstance(service.history("LAMP")[-1], events.OutOfStock)

    service.given(CancelOrder("o1"), ChangeBatchQuantity("b", 5))

    unchanged(service, Allocate("o1", "LAMP", 5), errors.OrderIsCancelled, "Order o1 is cancelled")


# --- dispatched ----------------------------------------------------------------


def test_5_of_12_leave_the_same_parcel_again_is_nothing_and_8_more_is_not_enough(service: Service) -> None:
    service.given(CreateBatch("in-stock", "LAMP", 12), Allocate("o1", "LAMP", 12, "1"))

    first = service.when(parcel("o1", "d-1", ("1", 5)))
    again = service.when(parcel("o1", "d-1", ("1", 5)))

    assert (first, again) == ({"LAMP": 3}, {"LAMP": 3})
    assert service.history("LAMP")[2:] == [events.Dispatched("o1", "LAMP", 5, "in-stock", "1", "d-1")]
    assert parts(service, "in-stock") == (12, 0, 7, 0, 5, 0)
    unchanged(
        service, parcel("o1", "d-1", ("1", 6)), errors.DocumentConflict, "Dispatch d-1 of order o1 exists already"
    )
    unchanged(
        service,
        parcel("o1", "d-2", ("1", 8)),
        errors.NotEnough,
        "8 of line 1 of order o1: 12 ordered − 5 dispatched = 7 promised",
    )


def test_a_parcel_with_a_line_that_is_refused_does_not_leave_at_all(service: Service) -> None:
    service.given(CreateBatch("a", "A", 5), CreateBatch("b", "B", 5), Allocate("o1", "A", 5), Allocate("o1", "B", 5))

    unchanged(service, parcel("o1", "d-1", ("A", 5), ("B", 6)), errors.NotEnough, "6 of line B")
    assert service.when(parcel("o1", "d-1", ("A", 5), ("B", 5))) == {"A": 3, "B": 3}


def test_a_batch_shared_by_two_orders_ships_both(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 10), Allocate("o1", "LAMP", 6), Allocate("o2", "LAMP", 4))

    service.given(parcel("o2", "d-1", ("LAMP", 4)), parcel("o1", "d-1", ("LAMP", 6)))

    assert parts(service, "b") == (10, 0, 0, 0, 10, 0)


def test_the_picker_took_it_from_another_batch_and_the_promise_there_moves(service: Service) -> None:
    service.given(CreateBatch("one", "LAMP", 5), CreateBatch("two", "LAMP", 5))
    service.given(Allocate("o1", "LAMP", 5), Allocate("o2", "LAMP", 5))
    assert promised(service) == {"o1": ("one", 5), "o2": ("two", 5)}

    service.when(parcel("o1", "d-1", ("LAMP", 3, "two")))

    assert parts(service, "one") == (5, 3, 2, 0, 0, 0)
    assert parts(service, "two") == (5, 2, 0, 0, 3, 0)
    assert line(service, "o1", "LAMP").batch_quantities == {"one": 2, "two": 3}
    assert service.history("LAMP")[4:] == [
        events.LineReleased("o1", "LAMP", 3, "one", "LAMP", "moved"),
        events.Allocated("o1", "LAMP", 3, "two", "LAMP"),
        events.Dispatched("o1", "LAMP", 3, "two", "LAMP", "d-1"),
        events.Deallocated("o2", "LAMP", 5, "two", "LAMP"),
        events.OutOfStock("o2", "LAMP", 5, "LAMP"),
    ]


def test_two_lines_of_a_parcel_that_were_picked_crosswise_both_leave(service: Service) -> None:
    service.given(CreateBatch("one", "LAMP", 5), CreateBatch("two", "LAMP", 5))
    service.given(Allocate("o1", "LAMP", 5, "1"), Allocate("o1", "LAMP", 5, "2"))

    service.when(parcel("o1", "d-1", ("1", 5, "two"), ("2", 5, "one")))

    assert line(service, "o1", "1").batch_quantities == {"two": 5}
    assert line(service, "o1", "2").batch_quantities == {"one": 5}
    assert (parts(service, "one"), parts(service, "two")) == ((5, 0, 0, 0, 5, 0),) * 2
    assert not [event for event in service.history("LAMP") if isinstance(event, events.Deallocated)]


def test_a_parcel_takes_no_more_from_a_shelf_with_all_of_its_lines_than_is_there(service: Service) -> None:
    service.given(CreateBatch("one", "LAMP", 5), CreateBatch("two", "LAMP", 5))
    service.given(Allocate("o1", "LAMP", 5, "1"), Allocate("o1", "LAMP", 5, "2"))

    too_much = parcel("o1", "d-1", ("1", 4, "two"), ("2", 2))
    unchanged(service, too_much, errors.NotEnough, "6 of batch two: 5 are on the shelf")


def test_lines_added_to_a_parcel_are_what_its_answer_is_about(service: Service) -> None:
    service.given(CreateBatch("one", "LAMP", 9), Allocate("o1", "LAMP", 5, "1"), Allocate("o1", "LAMP", 3, "2"))
    service.given(parcel("o1", "d-1", ("1", 5)))
    more = parcel("o1", "d-1", ("1", 5), ("2", 3))

    assert service.when(more) == {"LAMP": 5}
    assert service.when(more) == {"LAMP": 4}, "where the first of it is recorded"


def test_a_promise_that_comes_back_to_a_batch_says_nothing_about_what_left_last() -> None:
    left = PlacedLine("o1", "1", "LAMP").promise("one", 5, 1).give_back("one", 2).promise("two", 2, 2)
    left = left.dispatch("one", 2).dispatch("two", 2)

    assert left.promise("one", 1, 3).promise("two", 1, 4).batch_quantities == {"one": 4, "two": 3}
    assert [one.batchref for one in left.give_back("one", 1).promise("one", 1, 3).allocations] == ["one", "two"]


def test_the_picker_can_take_no_more_than_is_on_the_shelf(service: Service) -> None:
    service.given(CreateBatch("one", "LAMP", 5), CreateBatch("two", "LAMP", 5), Quarantine("two", 3, "lost", "q-1"))
    service.given(Allocate("o1", "LAMP", 5))

    unchanged(service, parcel("o1", "d-1", ("LAMP", 3, "two")), errors.NotEnough, "3 of batch two: 2 are on the shelf")
    unchanged(service, parcel("o1", "d-1", ("LAMP", 3, "nix")), errors.UnknownBatch, "Unknown batch nix")

    service.given(CreateBatch("sofas", "SOFA", 5))
    told = "Unknown batch sofas of LAMP: it is of SOFA"
    unchanged(service, parcel("o1", "d-1", ("LAMP", 3, "sofas")), errors.UnknownBatch, told)


def test_what_is_left_of_a_line_goes_elsewhere_and_what_has_left_stays(service: Service) -> None:
    service.given(CreateBatch("one", "LAMP", 12), CreateBatch("two", "LAMP", 12, JANUARY))
    service.given(Allocate("o1", "LAMP", 12), parcel("o1", "d-1", ("LAMP", 5)))

    service.when(ChangeBatchQuantity("one", 6))

    assert line(service, "o1", "LAMP").batch_quantities == {"one": 5, "two": 7}
    assert [(row.batchref, row.qty) for row in service.shown] == [("one", 5), ("two", 7)]
    unchanged(service, parcel("o1", "d-2", ("LAMP", 1)), errors.NotArrived, "Batch two is expected on 2031-01-01")
    assert service.when(Allocate("o1", "LAMP", 12)) == "one", "the line is what it was"


# --- returned ------------------------------------------------------------------


def test_2_come_back_damaged_dispatched_3_quarantined_2_available_as_before(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 10), Allocate("o1", "LAMP", 5), parcel("o1", "d-1", ("LAMP", 5)))
    back = ReturnLine("o1", "LAMP", 2, "r-1", "check")

    first, again = service.when(back), service.when(back)

    assert (first, again) == ({"LAMP": 4}, {"LAMP": 4})
    assert parts(service, "b") == (10, 5, 0, 0, 3, 2)
    assert service.history("LAMP")[3:] == [
        events.Returned("o1", "LAMP", 2, "b", "LAMP", "r-1", "check"),
        events.Quarantined("b", "LAMP", 2, "suspect", "r-1", "return"),
    ]


def test_what_comes_back_good_is_for_sale_again_and_no_more_comes_back_than_is_out(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), Allocate("o1", "LAMP", 5), parcel("o1", "d-1", ("LAMP", 5)))

    service.when(ReturnLine("o1", "LAMP", 2, "r-1", "good"))

    assert parts(service, "b") == (5, 2, 0, 0, 3, 0)
    unchanged(
        service, ReturnLine("o1", "LAMP", 4, "r-2", "good"), errors.NotEnough, "4 of line LAMP of order o1: 3 are out"
    )
    unchanged(service, ReturnLine("o1", "LAMP", 1, "r-1", "good"), errors.DocumentConflict, "Return r-1 of order o1")
    unchanged(service, ReturnLine("o1", "LAMP", 2, "r-1", "check"), errors.DocumentConflict, "2 of line LAMP, good")
    unchanged(service, ReturnLine("o1", "2", 1, "r-2", "good"), errors.UnknownLine, "Unknown line 2 of order o1")


def test_goods_come_back_to_the_batch_that_left_last_unless_another_is_named(service: Service) -> None:
    service.given(CreateBatch("one", "LAMP", 5), CreateBatch("two", "LAMP", 5), Allocate("o1", "LAMP", 5))
    service.given(parcel("o1", "d-1", ("LAMP", 2, "two")), parcel("o1", "d-2", ("LAMP", 2)))

    service.when(ReturnLine("o1", "LAMP", 1, "r-1", "good"))
    assert (batch(service, "one").dispatched_quantity, batch(service, "two").dispatched_quantity) == (1, 2)

    service.when(ReturnLine("o1", "LAMP", 1, "r-2", "good", "two"))
    assert (batch(service, "one").dispatched_quantity, batch(service, "two").dispatched_quantity) == (1, 1)

    service.when(ReturnLine("o1", "LAMP", 2, "r-3", "good"))
    assert (batch(service, "one").dispatched_quantity, batch(service, "two").dispatched_quantity) == (0, 0)
    assert line(service, "o1", "LAMP").qty == 5


def test_why_is_this_47(service: Service) -> None:
    """The history of a SKU adds up to what there is, and names what was done."""
    service.given(CreateBatch("b", "LAMP", 62), Allocate("o1", "LAMP", 10), parcel("o1", "d-1", ("LAMP", 10)))
    service.given(ReturnLine("o1", "LAMP", 2, "r-1", "check"), Quarantine("b", 5, "damaged", "q-1"))

    change = {
        events.BatchCreated: lambda event: event.qty,
        events.Allocated: lambda event: -event.qty,
        events.Returned: lambda event: event.qty,
        events.Quarantined: lambda event: -event.qty,
    }
    changes = [change[type(event)](event) for event in service.history("LAMP") if type(event) in change]

    assert changes == [62, -10, 2, -2, -5]
    assert batch(service, "b").available_quantity == sum(changes) == 47
