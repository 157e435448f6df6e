"""Holds, what runs out by itself, and days that pass; the whole service in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.anything import Later
from tests.fakes import NOON, TODAY, Service
from tests.unit import test_product_laws as laws
from tests.unit import test_supply as supply
from tests.unit.test_placing import has, order

from allocation.domain import errors, events
from allocation.domain.commands import (
    Allocate,
    ApplyDueDates,
    CancelOrder,
    ChangeBatchQuantity,
    ChangeEta,
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
    ReturnLine,
    VoidHold,
)
from allocation.domain.product import Product

LATER = date(2031, 1, 1)
YESTERDAY, TOMORROW = TODAY - timedelta(days=1), TODAY + timedelta(days=1)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def cart(service: Service) -> Service:
    """A cart holds the last lamp for ten minutes."""
    service.given(CreateBatch("b", "LAMP", 1), PlaceHold("cart-9", "LAMP", 1, 600))
    return service


def holds(service: Service, sku: str = "LAMP") -> set[str]:
    with service.unit_of_work() as uow:
        return {hold_id for _, hold_id in uow.products.get(sku).holds.of_sku(sku)}


def pass_time(service: Service, **by: float) -> None:
    service.now += timedelta(**by)


@contextmanager
def unchanged(service: Service) -> Iterator[None]:
    before = {sku: list(log) for sku, log in service.memory.log.items()}
    yield
    assert service.memory.log == before


def parts(service: Service, reference: str) -> dict[str, int]:
    """Purchased, available, and whatever else there is of it."""
    names = ("promised", "held", "dispatched", "quarantined")
    purchased, available, *others = supply.parts(service, reference)
    return {"purchased": purchased, "available": available} | {
        name: qty for name, qty in zip(names, others, strict=True) if qty
    }


# --- holds ---------------------------------------------------------------------------


def test_a_hold_names_its_batch_and_its_end(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5))

    assert service.when(PlaceHold("cart-9", "LAMP", 2, 600)) == {
        "hold_id": "cart-9",
        "sku": "LAMP",
        "qty": 2,
        "batchref": "b",
        "until": "2026-03-11T12:10:00Z",
    }
    assert service.history("LAMP")[1:] == [
        events.HoldPlaced("cart-9", "LAMP", 2, "b", datetime(2026, 3, 11, 12, 10, tzinfo=UTC))
    ]
    assert parts(service, "b") == {"purchased": 5, "available": 3, "held": 2}


def test_a_cart_holds_the_last_unit_for_600_s_at_599_999_refused_at_600_000_sold(cart: Service) -> None:
    pass_time(cart, seconds=599.999)
    with pytest.raises(errors.NoRoom):
        cart.when(PlaceHold("cart-10", "LAMP", 1, 600))
    assert cart.when(Allocate("o1", "LAMP", 1)) is None
    pass_time(cart, milliseconds=1)

    assert cart.when(Allocate("o2", "LAMP", 1)) == "b"
    assert cart.history("LAMP")[-2:] == [
        events.HoldEnded("cart-9", "LAMP", 1, "b", "expired"),
        events.Allocated("o2", "LAMP", 1, "b", "LAMP"),
    ]


def test_one_who_waits_gets_a_hold_that_ran_out_before_a_newcomer_does(cart: Service) -> None:
    cart.given(order("anna", "backorder", ("LAMP", 1)))
    pass_time(cart, seconds=600)

    assert cart.when(Allocate("newcomer", "LAMP", 1)) is None

    assert has(cart, "anna", "LAMP") == ({"b": 1}, 0)
    assert cart.allocations == {"anna": "b"}


def test_those_who_wait_are_served_from_each_hold_at_the_instant_at_which_it_ended(service: Service) -> None:
    """Not from all of them together: so it makes no difference when somebody looks."""
    service.given(CreateBatch("b", "LAMP", 10))
    service.given(PlaceHold("first", "LAMP", 5, 60), PlaceHold("second", "LAMP", 5, 61))
    service.given(order("anna", "backorder", ("LAMP", 8)), order("ben", "backorder", ("LAMP", 5)))
    pass_time(service, seconds=61)

    assert has(service, "ben", "LAMP") == ({"b": 5}, 0)
    assert has(service, "anna", "LAMP") == ({}, 8)


def test_your_own_hold_does_not_block_your_order(cart: Service) -> None:
    cart.when(PlaceOrder("o1", (OrderedLine("LAMP", 1, hold="cart-9"),), "all_or_nothing"))

    assert has(cart, "o1", "LAMP") == ({"b": 1}, 0)
    assert holds(cart) == set()


def test_an_order_takes_a_hold_over_and_what_it_does_not_take_is_free(service: Service) -> None:
    service.given(CreateBatch("near", "LAMP", 1), CreateBatch("far", "LAMP", 4, LATER))
    service.given(PlaceHold("cart-9", "LAMP", 4, 600), order("anna", "backorder", ("LAMP", 2)))

    service.when(PlaceOrder("o1", (OrderedLine("LAMP", 1, hold="cart-9"),), "all_or_nothing"))

    assert has(service, "o1", "LAMP") == ({"far": 1}, 0)
    assert has(service, "anna", "LAMP") == ({"far": 2}, 0)


def test_what_is_held_for_one_line_is_no_other_lines(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 5, 600))
    lines = OrderedLine("LAMP", 2, "1", "cart-9"), OrderedLine("LAMP", 3, "2")

    answer = service.when(PlaceOrder("o1", lines, "all_or_nothing"))

    assert answer == {
        "orderid": "o1",
        "outcome": "out_of_stock",
        "shortages": [{"lineid": "2", "sku": "LAMP", "requested": 3, "taken_by_this_order": 0}],
    }
    assert holds(service) == {"cart-9"}


def test_what_a_line_leaves_of_its_hold_is_in_the_answer_when_another_line_of_the_order_gets_it(
    service: Service,
) -> None:
    service.given(CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 5, 600))
    order_of_two = PlaceOrder("o1", (OrderedLine("LAMP", 3, "1", "cart-9"), OrderedLine("LAMP", 2, "2")), "backorder")

    answer = service.when(order_of_two)

    assert (answer["outcome"], [line["waiting"] for line in answer["lines"]]) == ("allocated", [0, 0])
    assert service.when(order_of_two) == answer


def test_two_lines_may_take_one_hold(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 5, 600))
    lines = OrderedLine("LAMP", 2, "1", "cart-9"), OrderedLine("LAMP", 3, "2", "cart-9")

    service.when(PlaceOrder("o1", lines, "all_or_nothing"))

    assert [has(service, "o1", lineid) for lineid in "12"] == [({"b": 2}, 0), ({"b": 3}, 0)]


def test_a_hold_is_room_once_however_many_lines_take_it(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 5, 600))
    lines = OrderedLine("LAMP", 3, "1", "cart-9"), OrderedLine("LAMP", 3, "2", "cart-9")

    service.when(PlaceOrder("o1", lines, "backorder"))

    assert [has(service, "o1", lineid) for lineid in "12"] == [({"b": 3}, 0), ({}, 3)]


def test_a_hold_that_ran_out_is_no_refusal_of_an_order(cart: Service) -> None:
    pass_time(cart, seconds=600)

    cart.when(PlaceOrder("o1", (OrderedLine("LAMP", 1, hold="cart-9"),), "all_or_nothing"))

    assert has(cart, "o1", "LAMP") == ({"b": 1}, 0)


def test_confirming_1_of_3_frees_2_again_changes_nothing_and_late_it_is_over(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 3), PlaceHold("cart-9", "LAMP", 3, 600))
    service.given(order("anna", "backorder", ("LAMP", 2)))

    service.when(ConfirmHold("cart-9", "LAMP", 1, "o1"))

    assert has(service, "o1", "LAMP") == ({"b": 1}, 0)
    assert has(service, "anna", "LAMP") == ({"b": 2}, 0)
    with unchanged(service):
        service.when(ConfirmHold("cart-9", "LAMP", 1, "o1"))
    with unchanged(service), pytest.raises(errors.HoldIsOver):
        service.when(ConfirmHold("cart-9", "LAMP", 1, "o2"))


def test_a_line_that_waits_for_just_that_gets_what_is_held(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 3), PlaceHold("cart-9", "LAMP", 3, 600))
    service.given(order("anna", "backorder", ("LAMP", 3), priority=8), order("ben", "backorder", ("LAMP", 2)))

    with unchanged(service), pytest.raises(errors.LineConflict):
        service.when(ConfirmHold("cart-9", "LAMP", 2, "anna"))
    service.when(ConfirmHold("cart-9", "LAMP", 2, "ben"))

    assert has(service, "ben", "LAMP") == ({"b": 2}, 0)
    assert has(service, "anna", "LAMP") == ({}, 3)
    with unchanged(service):
        service.when(ConfirmHold("cart-9", "LAMP", 2, "ben"))


def test_a_late_confirmation_is_refused(cart: Service) -> None:
    pass_time(cart, seconds=600)

    with unchanged(cart), pytest.raises(errors.HoldIsOver):
        cart.when(ConfirmHold("cart-9", "LAMP", 1, "o1"))


def test_a_confirmed_line_waits_when_it_loses_its_goods(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 3), PlaceHold("cart-9", "LAMP", 3, 600))
    service.given(ConfirmHold("cart-9", "LAMP", 3, "o1", priority=7, needed_by=LATER))

    service.when(ChangeBatchQuantity("b", 0))

    assert has(service, "o1", "LAMP") == ({}, 3)


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (ConfirmHold("cart-9", "LAMP", 2, "o1"), errors.NotEnough),
        (ConfirmHold("cart-9", "LAMP", 1, "known"), errors.LineConflict),
        (ConfirmHold("cart-9", "LAMP", 1, "cancelled"), errors.OrderIsCancelled),
        (PlaceHold("cart-9", "LAMP", 2, 600), errors.HoldConflict),
        (PlaceHold("cart-10", "SOFA", 2, 600), errors.InvalidSku),
        (ExtendHold("cart-10", "LAMP", 600), errors.HoldIsOver),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    service: Service, command: Command, refusal: type[Exception]
) -> None:
    service.given(CreateBatch("b", "LAMP", 9), Allocate("known", "LAMP", 3), Allocate("cancelled", "LAMP", 3))
    service.given(PlaceHold("cart-9", "LAMP", 1, 600), CancelOrder("cancelled"))

    with unchanged(service), pytest.raises(refusal):
        service.when(command)


def test_the_same_hold_again_is_as_it_was(cart: Service) -> None:
    pass_time(cart, seconds=60)

    with unchanged(cart):
        assert cart.when(PlaceHold("cart-9", "LAMP", 1, 600))["until"] == "2026-03-11T12:10:00Z"


def test_a_hold_is_extended_from_now_and_four_hours_at_most(cart: Service) -> None:
    with unchanged(cart):
        cart.when(ExtendHold("cart-9", "LAMP", 60))
    pass_time(cart, seconds=300)
    for _ in range(2):
        cart.when(ExtendHold("cart-9", "LAMP", 14_400))

    assert cart.history("LAMP")[2:] == [
        events.HoldExtended("cart-9", "LAMP", NOON + timedelta(seconds=300) + timedelta(hours=4))
    ]


def test_a_hold_that_is_given_up_is_free_and_again_changes_nothing(cart: Service) -> None:
    cart.when(VoidHold("cart-9", "LAMP"))

    assert parts(cart, "b") == {"purchased": 1, "available": 1}
    with unchanged(cart):
        cart.when(VoidHold("cart-9", "LAMP"))
    assert cart.when(PlaceHold("cart-9", "LAMP", 1, 60))["until"] == "2026-03-11T12:01:00Z"


def test_holds_break_before_promises_when_a_batch_shrinks_the_newest_first(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 10), PlaceHold("old", "LAMP", 2, 600), Allocate("o1", "LAMP", 5))
    service.given(PlaceHold("new", "LAMP", 3, 600))

    service.when(ChangeBatchQuantity("b", 8))
    assert holds(service) == {"old"}
    service.when(ChangeBatchQuantity("b", 6))
    assert holds(service) == set()
    service.when(ChangeBatchQuantity("b", 5))

    assert parts(service, "b") == {"purchased": 5, "available": 0, "promised": 5}
    assert not [event for event in service.history("LAMP") if isinstance(event, events.Deallocated)]


# --- what leaves no trace --------------------------------------------------------------


def test_a_refused_command_records_no_expired_hold(cart: Service) -> None:
    pass_time(cart, seconds=600)

    with unchanged(cart), pytest.raises(errors.NoRoom):
        cart.when(PlaceHold("cart-10", "LAMP", 2, 600))


def test_a_command_that_changes_nothing_records_no_expired_hold(cart: Service) -> None:
    cart.given(order("anna", "backorder", ("LAMP", 1)))
    pass_time(cart, seconds=600)

    with unchanged(cart):
        cart.when(CreateBatch("b", "LAMP", 1))
    with unchanged(cart):
        cart.when(order("anna", "backorder", ("LAMP", 1)))
    assert has(cart, "anna", "LAMP") == ({"b": 1}, 0)


def test_of_two_products_that_a_command_looks_at_only_the_one_that_changes_says_what_had_run_out(cart: Service) -> None:
    cart.given(CreateBatch("s", "SOFA", 2), PlaceHold("cart-9", "SOFA", 1, 600))
    cart.given(order("o1", "backorder", ("LAMP", 1)), order("o1", "backorder", ("SOFA", 1)))
    pass_time(cart, seconds=600)
    before = cart.history("LAMP")

    cart.when(order("o2", "all_or_nothing", ("SOFA", 2)))
    cart.when(order("o1", "backorder", ("LAMP", 1), ("SOFA", 1), ("SOFA", 1, "more")))

    assert cart.history("LAMP") == before
    assert events.HoldEnded("cart-9", "SOFA", 1, "s", "expired") in cart.history("SOFA")


# --- days ------------------------------------------------------------------------------


def due(*refs: str, sku: str = "LAMP") -> ApplyDueDates:
    return ApplyDueDates(sku, refs)


def test_milk_of_march_10_is_sold_before_march_20_and_not_on_march_11() -> None:
    service = Service(now=datetime(2026, 3, 10, 22, 59, 59, tzinfo=UTC).astimezone(ZoneInfo("Europe/Berlin")))
    service.given(CreateBatch("m3", "MILK", 9), CreateBatch("m2", "MILK", 9, None, date(2026, 3, 20)))
    service.given(CreateBatch("m1", "MILK", 9, None, date(2026, 3, 10)))
    assert service.when(Allocate("o1", "MILK", 5)) == "m1"
    pass_time(service, seconds=1)

    assert service.when(Allocate("o2", "MILK", 4)) == "m2"
    service.when(due("m1", "m2", "m3", sku="MILK"))

    assert parts(service, "m1") == {"purchased": 9, "available": 0, "quarantined": 9}
    assert has(service, "o1", "MILK") == ({"m2": 5}, 0)
    assert service.history("MILK")[-3:] == [
        events.BatchExpired("m1", "MILK", 9),
        events.Deallocated("o1", "MILK", 5, "m1", "MILK"),
        events.Allocated("o1", "MILK", 5, "m2", "MILK"),
    ]


def test_what_expires_loses_its_holds_and_promises_and_each_is_recorded_once(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 9, None, YESTERDAY), CreateBatch("keeps", "LAMP", 3))
    service.now -= timedelta(days=1)
    service.given(Allocate("o1", "LAMP", 3), Allocate("o2", "LAMP", 2), PlaceHold("cart-9", "LAMP", 1, 600))
    service.given(Dispatch("o1", "d1", (ParcelLine("LAMP", 1),)))
    service.now += timedelta(seconds=1)
    service.given(ExtendHold("cart-9", "LAMP", 14_400))
    service.now = datetime(2026, 3, 11, 0, 0, tzinfo=UTC)

    service.when(due("b"))

    assert parts(service, "b") == {"purchased": 9, "available": 0, "dispatched": 1, "quarantined": 8}
    assert has(service, "o1", "LAMP") == ({"keeps": 2}, 0)
    assert [type(event).__name__ for event in service.history("LAMP")[-5:]] == [
        *("BatchExpired", "Deallocated", "Deallocated", "Allocated", "OutOfStock")
    ]
    with unchanged(service):
        service.when(due("b", "b"))


@pytest.mark.parametrize(
    "command",
    [
        ReturnLine("o1", "LAMP", 1, "r1", "good"),
        CountBatch("b", 1, 0, "c1", "found"),
        ReceiveBatch("b", "r1", 1),
        ChangeBatchQuantity("b", 10),
    ],
    ids=lambda command: type(command).__name__,
)
def test_what_becomes_available_of_expired_goods_goes_into_quarantine(service: Service, command: Command) -> None:
    service.now -= timedelta(days=1)
    service.given(CreateBatch("b", "LAMP", 9, None, YESTERDAY), Allocate("o1", "LAMP", 2))
    service.given(Dispatch("o1", "d1", (ParcelLine("LAMP", 2),)))
    service.now += timedelta(days=1)
    service.given(due("b"))

    service.when(command)

    assert parts(service, "b")["available"] == 0
    assert service.history("LAMP")[-1] == events.BatchExpired("b", "LAMP", 1)


def test_expired_goods_that_are_expected_are_promised_no_more_and_arrive_into_quarantine(service: Service) -> None:
    service.now -= timedelta(days=1)
    service.given(CreateBatch("b", "LAMP", 9, LATER, YESTERDAY), order("o1", "backorder", ("LAMP", 2)))
    service.now += timedelta(days=1)

    service.when(due("b"))
    assert has(service, "o1", "LAMP") == ({}, 2)
    service.when(ReceiveBatch("b", "r1", 7))

    assert parts(service, "b") == {"purchased": 7, "available": 0, "quarantined": 7}
    assert has(service, "o1", "LAMP") == ({}, 2)


def test_goods_that_arrive_with_a_later_day_are_sold(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 9, LATER, YESTERDAY), due("b"), order("o1", "backorder", ("LAMP", 2)))

    service.when(ReceiveBatch("b", "r1", 9, expires=TOMORROW))

    assert has(service, "o1", "LAMP") == ({"b": 2}, 0)


def test_a_hold_of_expired_goods_is_not_confirmed(service: Service) -> None:
    service.now = datetime(2026, 3, 10, 23, 59, tzinfo=UTC)
    service.given(CreateBatch("b", "LAMP", 9, None, YESTERDAY), PlaceHold("cart-9", "LAMP", 1, 600))
    service.now += timedelta(minutes=1)

    with unchanged(service), pytest.raises(errors.HoldIsOver):
        service.when(ConfirmHold("cart-9", "LAMP", 1, "o1"))


def test_overdue_once_for_each_eta(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 9, YESTERDAY), Allocate("o1", "LAMP", 3))

    service.when(due("b"))
    with unchanged(service):
        service.when(due("b"))
    service.when(ChangeEta("b", TODAY - timedelta(days=2)))
    service.when(due("b"))
    service.when(ChangeEta("b", TODAY))
    with unchanged(service):
        service.when(due("b"))

    assert [event for event in service.history("LAMP") if isinstance(event, events.BatchOverdue)] == [
        events.BatchOverdue("b", "LAMP", YESTERDAY),
        events.BatchOverdue("b", "LAMP", TODAY - timedelta(days=2)),
    ]
    assert has(service, "o1", "LAMP") == ({"b": 3}, 0)


def test_a_past_eta_is_never_arrival(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 9, YESTERDAY), Allocate("o1", "LAMP", 3), due("b"))

    with unchanged(service), pytest.raises(errors.NotArrived):
        service.when(Dispatch("o1", "d1", (ParcelLine("LAMP", 3),)))


def test_days_that_were_missed_are_recorded_in_their_order(service: Service) -> None:
    service.given(
        CreateBatch("late", "LAMP", 1, date(2026, 3, 9)), CreateBatch("old", "LAMP", 1, None, date(2026, 3, 8))
    )
    service.given(CreateBatch("older", "LAMP", 1, None, date(2026, 3, 7)), CreateBatch("fresh", "LAMP", 1, None, TODAY))
    service.given(PlaceHold("cart-9", "LAMP", 1, 60), CreateBatch("later", "LAMP", 1, date(2026, 3, 10)))
    pass_time(service, days=0.4)

    service.when(due("later", "late", "fresh", "old", "older", "unknown"))

    assert service.history("LAMP")[6:] == [
        events.HoldEnded("cart-9", "LAMP", 1, "fresh", "expired"),
        events.BatchExpired("older", "LAMP", 1),
        events.BatchExpired("old", "LAMP", 1),
        events.BatchOverdue("late", "LAMP", date(2026, 3, 9)),
        events.BatchOverdue("later", "LAMP", date(2026, 3, 10)),
    ]


def test_a_batch_of_another_sku_is_none_of_its_business(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 1, YESTERDAY), CreateBatch("s", "SOFA", 1, YESTERDAY))

    service.when(due("b", "s"))

    assert len(service.history("SOFA")) == 1


# --- pull forward ------------------------------------------------------------------------


@pytest.fixture
def april(service: Service) -> Service:
    """Monday's promises are all of goods that come in April; now there are three in the warehouse, and more in May."""
    service.given(CreateBatch("april", "LAMP", 9, LATER), Allocate("oldest", "LAMP", 1), Allocate("large", "LAMP", 4))
    service.given(order("urgent", "backorder", ("LAMP", 1), priority=9), Allocate("newest", "LAMP", 1))
    service.given(order("waits", "backorder", ("LAMP", 5)), CreateBatch("in-stock", "LAMP", 3))
    service.given(CreateBatch("may", "LAMP", 3, date(2031, 5, 1)))
    return service


def test_promises_are_pulled_forward_as_whole_promises_by_priority_and_age(april: Service) -> None:
    answer = april.when(PullForward("LAMP", "in-stock"))

    assert [(move["orderid"], move["from"], move["to"]) for move in answer["moved"]] == [
        ("urgent", "april", "in-stock"),
        ("oldest", "april", "in-stock"),
        ("newest", "april", "in-stock"),
    ]
    assert has(april, "urgent", "LAMP") == ({"in-stock": 1}, 0)
    assert has(april, "large", "LAMP") == ({"april": 4}, 0)
    assert has(april, "waits", "LAMP") == ({"april": 5}, 0), "what became free is theirs who wait"
    with unchanged(april):
        april.when(PullForward("LAMP", "in-stock"))


def test_pull_forward_previewed_and_done_move_the_same_line(april: Service) -> None:
    command = PullForward("LAMP", "in-stock", most=1)
    with unchanged(april):
        preview = april.bus.dry_run(command)

    outcome = april.bus.outcome(command)

    assert preview.result == outcome.result
    assert [move["orderid"] for move in outcome.result["moved"]] == ["urgent"]


def test_nothing_is_pulled_to_a_batch_that_comes_later_or_of_another_sku(april: Service) -> None:
    with unchanged(april):
        april.when(PullForward("LAMP", "may"))
    with unchanged(april), pytest.raises(errors.UnknownBatch):
        april.when(PullForward("SOFA", "april"))


def test_a_line_is_pulled_only_where_its_terms_let_it_go(service: Service) -> None:
    service.given(CreateBatch("april", "LAMP", 9, LATER, location="berlin"))
    service.given(order("o1", "backorder", ("LAMP", 1), locations=("berlin",)))
    service.given(CreateBatch("in-stock", "LAMP", 2, location="hamburg"))

    with unchanged(service):
        service.when(PullForward("LAMP", "in-stock"))


# --- laws --------------------------------------------------------------------------------


@given(laws.requests, st.sampled_from(["h1", "h2"]), st.integers(1, 12))
def test_what_is_held_and_given_up_leaves_every_number_as_it_was_when_nobody_waits(
    asked: list[Command | Later], hold_id: str, qty: int
) -> None:
    product = laws.after(asked)
    before = [(batch.reference, batch.taken_quantity) for batch in product.batches.of("SKU")]
    if product.waiting:
        return

    try:
        laws.ask(product, PlaceHold(hold_id, "SKU", qty, 60))
    except errors.DomainError:
        return
    laws.ask(product, VoidHold(hold_id, "SKU"))

    assert [(batch.reference, batch.taken_quantity) for batch in product.batches.of("SKU")] == before


@given(laws.requests, st.integers(0, 30))
def test_the_newest_holds_are_broken_and_no_more_than_must_be(asked: list[Command | Later], qty: int) -> None:
    product = laws.after(asked)
    batch = product.batches.get("b1")
    if batch is None:
        return
    there = sorted(product.holds.first_to_break(batch), key=lambda hold: -hold.version)
    before = len(product.events)

    try:
        laws.ask(product, ChangeBatchQuantity("b1", qty))
    except errors.DomainError:
        return

    new = product.events[before:]
    broken = [event for event in new if isinstance(event, events.HoldEnded) and event.why == "broken"]
    assert [event.hold_id for event in broken] == [hold.hold_id for hold in there[: len(broken)]]
    lost = [event for event in new if isinstance(event, events.Deallocated) and event.batchref == "b1"]
    assert not lost or len(broken) == len(there), "holds go first"


keeps = laws.requests


@given(keeps, st.data())
def test_without_expiry_dates_any_schedule_of_a_clock_gives_newcomers_the_same_answers(
    asked: list[Command | Later], data: st.DataObject
) -> None:
    asked = [_without_expiry(command) for command in asked]
    alone, beside = laws.new_product(), laws.new_product()
    for command in asked:
        if isinstance(command, ApplyDueDates):
            continue
        outcomes = []
        for product in (alone, beside):
            try:
                laws.ask(product, command)
                outcomes.append("taken")
            except errors.DomainError as refusal:
                outcomes.append(type(refusal).__name__)
        assert outcomes[0] == outcomes[1], command
        for _ in range(data.draw(st.sampled_from([0, 1, 2]))):
            purchased = [batch.purchased_quantity for batch in beside.batches.of("SKU")]
            laws.ask(beside, ApplyDueDates("SKU", ("b1", "b2", "b3")))
            assert purchased == [batch.purchased_quantity for batch in beside.batches.of("SKU")]

        for product in (alone, beside):
            laws.ask(product, Later(0))
        assert _standing(alone) == _standing(beside), command


def _without_expiry(command: Command | Later) -> Command | Later:
    if isinstance(command, CreateBatch):
        return CreateBatch(command.ref, command.sku, command.qty, command.eta, None, command.location)
    if isinstance(command, ReceiveBatch):
        return ReceiveBatch(command.ref, command.receipt_id, command.received, command.damaged, None, command.rest)
    return command


def _standing(product: Product) -> object:
    lines = product.lines.of_sku("SKU").values()
    batches = [(one.reference, one.taken_quantity, one.purchased_quantity) for one in product.batches.of("SKU")]
    return batches, {line.key: (dict(line.batch_quantities), line.waiting) for line in lines}


@given(laws.requests)
def test_a_clock_that_strikes_twice_records_once(asked: list[Command | Later]) -> None:
    product = laws.after(asked)
    due = ApplyDueDates("SKU", ("b1", "b2", "b3"))
    if not product.version_number:
        return
    laws.ask(product, due)
    once = len(product.events)

    laws.ask(product, due)

    assert len(product.events) == once


def test_quarantine_breaks_holds_too(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 3, 600))

    service.when(Quarantine("b", 3, "damaged", "q1"))

    assert parts(service, "b") == {"purchased": 5, "available": 2, "quarantined": 3}
