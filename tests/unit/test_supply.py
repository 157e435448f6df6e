"""How goods arrive, are counted and taken from sale, and what that does to promises; the whole service in memory."""

from __future__ import annotations

import re
from datetime import date

import pytest
from tests.fakes import Service

from allocation.domain import commands, errors, events
from allocation.domain.batches import Batch
from allocation.domain.commands import (
    Allocate,
    ChangeBatchQuantity,
    ChangeEta,
    CountBatch,
    CreateBatch,
    Dispatch,
    ParcelLine,
    Quarantine,
    ReceiveBatch,
    ReleaseQuarantine,
    Rest,
    WriteOff,
)

JANUARY, FEBRUARY = date(2031, 1, 1), date(2031, 2, 1)


@pytest.fixture
def service() -> Service:
    return Service()


def batch(service: Service, reference: str) -> Batch:
    with service.unit_of_work() as uow:
        return uow.products.get_by_batchref(reference).batches[reference]


def parts(service: Service, reference: str) -> tuple[int, ...]:
    """Purchased, then each of its parts."""
    found = batch(service, reference)
    return (
        found.purchased_quantity,
        found.available_quantity,
        found.promised_quantity,
        found.held_quantity,
        found.dispatched_quantity,
        found.quarantined_quantity,
    )


def promised(service: Service) -> dict[str, tuple[str, int]]:
    return {row.orderid: (row.batchref, row.qty) for row in service.shown}


def unchanged(service: Service, command: commands.Command, refusal: type[errors.DomainError], says: str) -> None:
    """It is refused, and leaves no trace."""
    before = {sku: list(log) for sku, log in service.memory.log.items()}
    with pytest.raises(refusal, match=says):
        service.when(command)
    assert service.memory.log == before


@pytest.fixture
def ship(service: Service) -> Service:
    """100 lamps on a ship, 80 of them promised: to A first, to C last."""
    service.given(CreateBatch("by-ship", "LAMP", 100, JANUARY))
    service.given(*(Allocate(order, "LAMP", qty) for order, qty in (("A", 50), ("B", 20), ("C", 10))))
    return service


RECEIPT = ReceiveBatch("by-ship", "r-1", received=60, damaged=5, rest=Rest("by-ship-2", FEBRUARY))


def test_60_of_100_arrive_5_damaged_the_rest_in_february(ship: Service) -> None:
    ship.when(RECEIPT)

    assert parts(ship, "by-ship") == (60, 5, 50, 0, 0, 5)
    assert parts(ship, "by-ship-2") == (40, 10, 30, 0, 0, 0)
    assert promised(ship) == {"A": ("by-ship", 50), "B": ("by-ship-2", 20), "C": ("by-ship-2", 10)}
    assert ship.history("LAMP")[4:] == [
        events.BatchCreated("by-ship-2", "LAMP", 40, FEBRUARY),
        events.BatchReceived("by-ship", "LAMP", "r-1", 60, 5, 60, None, "by-ship-2"),
        events.Quarantined("by-ship", "LAMP", 5, "damaged", "r-1", "receipt"),
        events.Deallocated("B", "LAMP", 20, "by-ship", "LAMP"),
        events.Deallocated("C", "LAMP", 10, "by-ship", "LAMP"),
        events.Allocated("B", "LAMP", 20, "by-ship-2", "LAMP"),
        events.Allocated("C", "LAMP", 10, "by-ship-2", "LAMP"),
    ]


def test_what_is_missing_for_good_is_out_of_stock_for_the_newest(ship: Service) -> None:
    ship.when(ReceiveBatch("by-ship", "r-1", received=70))

    assert promised(ship) == {"A": ("by-ship", 50), "B": ("by-ship", 20)}
    assert ship.history("LAMP")[-1] == events.OutOfStock("C", "LAMP", 10, "LAMP")


def test_110_of_100_arrive_and_all_of_them_are_there(ship: Service) -> None:
    ship.when(ReceiveBatch("by-ship", "r-1", received=110))

    assert parts(ship, "by-ship") == (110, 30, 80, 0, 0, 0)


def test_a_receipt_sent_twice_counts_once_and_with_other_numbers_it_is_refused(ship: Service) -> None:
    first = ship.when(RECEIPT)
    version = len(ship.history("LAMP"))

    assert first == {"LAMP": 5}
    assert ship.when(RECEIPT) == {"LAMP": 6}, "where the receipt itself is recorded"
    assert len(ship.history("LAMP")) == version
    for other in (
        ReceiveBatch("by-ship", "r-1", received=61, damaged=5, rest=Rest("by-ship-2", FEBRUARY)),
        ReceiveBatch("by-ship", "r-1", received=60, damaged=4, rest=Rest("by-ship-2", FEBRUARY)),
        ReceiveBatch("by-ship", "r-1", received=60, damaged=5),
        ReceiveBatch("by-ship", "r-1", received=60, damaged=5, rest=Rest("by-ship-2", date(2031, 3, 1))),
        ReceiveBatch("by-ship", "r-1", received=60, damaged=5, rest=Rest("by-ship-3", FEBRUARY)),
    ):
        unchanged(
            ship,
            other,
            errors.DocumentConflict,
            "Receipt r-1 of batch by-ship exists already: 60 received, 5 damaged, rest by-ship-2 on 2031-02-01",
        )


def test_a_second_receipt_is_more_of_the_same_batch(ship: Service) -> None:
    ship.given(RECEIPT)

    unchanged(
        ship,
        ReceiveBatch("by-ship", "r-2", 10**9 - 59),
        errors.ImpossibleReceipt,
        "received: batch by-ship would be of 1,000,000,001, and 1,000,000,000 is the most",
    )
    ship.when(ReceiveBatch("by-ship", "r-2", received=5))

    assert parts(ship, "by-ship") == (65, 10, 50, 0, 0, 5)
    unchanged(
        ship,
        ReceiveBatch("by-ship", "r-3", 1, rest=Rest("by-ship-3", FEBRUARY)),
        errors.ImpossibleReceipt,
        "rest: nothing of batch by-ship is left to come",
    )
    unchanged(
        ship,
        ReceiveBatch("by-ship", "r-3", 1, expires=FEBRUARY),
        errors.BatchConflict,
        f"Batch by-ship exists already, created with 100 of LAMP, eta {JANUARY}, expires never; "
        f"asked for: expires {FEBRUARY}",
    )


def test_nothing_came_and_all_of_it_is_expected_later(ship: Service) -> None:
    ship.when(ReceiveBatch("by-ship", "r-1", received=0, rest=Rest("by-ship-2", FEBRUARY)))

    assert parts(ship, "by-ship") == (0, 0, 0, 0, 0, 0)
    assert parts(ship, "by-ship-2") == (100, 20, 80, 0, 0, 0)


@pytest.mark.parametrize(
    ("receipt", "says"),
    [
        (ReceiveBatch("by-ship", "r-1", 10**9 + 1), "received: batch by-ship would be of 1,000,000,001"),
        (ReceiveBatch("by-ship", "r-1", received=4, damaged=5), "damaged: 5 of 4 that were received"),
        (ReceiveBatch("by-ship", "r-1", 100, rest=Rest("b2", FEBRUARY)), "rest: nothing of batch by-ship is left"),
        (ReceiveBatch("by-ship", "r-1", 101, rest=Rest("b2", FEBRUARY)), "rest: nothing of batch by-ship is left"),
    ],
)
def test_a_receipt_whose_numbers_contradict_each_other_is_refused(
    ship: Service, receipt: ReceiveBatch, says: str
) -> None:
    unchanged(ship, receipt, errors.ImpossibleReceipt, says)


def test_what_has_expired_when_it_arrives_is_in_quarantine_and_its_promises_go_elsewhere_at_once(ship: Service) -> None:
    ship.given(CreateBatch("other", "LAMP", 60, FEBRUARY))
    before = len(ship.history("LAMP"))

    ship.given(ReceiveBatch("by-ship", "r-1", 60, 5, expires=date(2026, 3, 10)))

    assert parts(ship, "by-ship") == (60, 0, 0, 0, 0, 60)
    assert parts(ship, "other") == (60, 0, 60, 0, 0, 0), "A has 50, C has 10, and B of 20 is out of stock"
    assert [type(event).__name__ for event in ship.history("LAMP")[before:]] == [
        *("BatchReceived", "Quarantined", "BatchExpired", "Deallocated", "Deallocated", "Deallocated"),
        *("Allocated", "OutOfStock", "Allocated"),
    ]
    ship.given(ReceiveBatch("by-ship", "r-2", 3))
    assert parts(ship, "by-ship") == (63, 0, 0, 0, 0, 63)


def test_the_rest_needs_a_reference_of_its_own(ship: Service) -> None:
    unchanged(
        ship, ReceiveBatch("by-ship", "r-1", 60, rest=Rest("by-ship", FEBRUARY)), errors.BatchConflict, "rest by-ship"
    )


def test_a_batch_that_was_created_is_the_identical_one_whatever_became_of_it(ship: Service) -> None:
    ship.given(ChangeEta("by-ship", FEBRUARY), ReceiveBatch("by-ship", "r-1", received=60, expires=JANUARY))
    version = len(ship.history("LAMP"))

    ship.when(CreateBatch("by-ship", "LAMP", 100, JANUARY))

    assert len(ship.history("LAMP")) == version
    unchanged(ship, CreateBatch("by-ship", "LAMP", 100, FEBRUARY), errors.BatchConflict, "created with 100 of LAMP")


def test_a_batch_that_is_another_one_is_refused_by_what_differs(service: Service) -> None:
    service.given(CreateBatch("b1", "LAMP", 10), CreateBatch("b2", "LAMP", 10, JANUARY, FEBRUARY, "hamburg"))

    for other, says in [
        (
            CreateBatch("b1", "LAMP", 10, None, FEBRUARY, "hamburg"),
            "Batch b1 exists already, created with 10 of LAMP, eta none (in the warehouse), expires never, "
            f"location none; asked for: expires {FEBRUARY}, location hamburg",
        ),
        (
            CreateBatch("b2", "LAMP", 0),
            f"Batch b2 exists already, created with 10 of LAMP, eta {JANUARY}, expires {FEBRUARY}, location hamburg; "
            "asked for: qty 0, eta none, expires none, location none",
        ),
    ]:
        unchanged(service, other, errors.BatchConflict, re.escape(says))


def test_a_past_eta_is_never_arrival(service: Service) -> None:
    service.given(CreateBatch("late", "LAMP", 10, date(2020, 1, 4)), Allocate("o1", "LAMP", 3))

    assert promised(service) == {"o1": ("late", 3)}
    for command in (
        Dispatch("o1", "d-1", (ParcelLine("LAMP", 3),)),
        Dispatch("o1", "d-1", (ParcelLine("LAMP", 3, "late"),)),
        Quarantine("late", 1, "damaged", "q-1"),
        CountBatch("late", 10, 10, "c-1", "found"),
    ):
        unchanged(service, command, errors.NotArrived, "Batch late is expected on 2020-01-04; receive it first")


def test_an_eta_that_moves_keeps_promises_and_changes_the_order_of_choice(service: Service) -> None:
    service.given(CreateBatch("first", "LAMP", 10, JANUARY), CreateBatch("second", "LAMP", 10, FEBRUARY))
    service.given(Allocate("o1", "LAMP", 3))

    service.when(ChangeEta("first", date(2031, 3, 1)))
    service.when(ChangeEta("first", date(2031, 3, 1)))
    service.given(Allocate("o2", "LAMP", 3))

    assert promised(service) == {"o1": ("first", 3), "o2": ("second", 3)}
    assert [event for event in service.history("LAMP") if isinstance(event, events.EtaChanged)] == [
        events.EtaChanged("first", "LAMP", date(2031, 3, 1))
    ]


def test_what_has_arrived_is_not_expected_any_more(ship: Service) -> None:
    ship.given(RECEIPT)

    unchanged(ship, ChangeEta("by-ship", FEBRUARY), errors.AlreadyArrived, "Batch by-ship has arrived")
    unchanged(ship, ChangeEta("nix", FEBRUARY), errors.UnknownBatch, "Unknown batch nix")


def test_who_has_seen_another_batch_changes_no_eta(ship: Service) -> None:
    seen = batch(ship, "by-ship").revision
    ship.given(ChangeEta("by-ship", FEBRUARY, (seen,)))

    unchanged(ship, ChangeEta("by-ship", JANUARY, (seen,)), errors.StaleBatch, "has changed: .* eta 2031-02-01")


@pytest.fixture
def shelf(service: Service) -> Service:
    """10 lamps in the warehouse, 8 promised: 5 to A, then 3 to B."""
    service.given(CreateBatch("here", "LAMP", 10), Allocate("A", "LAMP", 5), Allocate("B", "LAMP", 3))
    return service


def test_quarantine_4_of_10_breaks_the_newer_3_only(shelf: Service) -> None:
    shelf.when(Quarantine("here", 4, "damaged", "q-1"))

    assert parts(shelf, "here") == (10, 1, 5, 0, 0, 4)
    assert promised(shelf) == {"A": ("here", 5)}
    assert shelf.history("LAMP")[-1] == events.OutOfStock("B", "LAMP", 3, "LAMP")


def test_damaged_goods_are_not_available(shelf: Service) -> None:
    shelf.given(Quarantine("here", 2, "damaged", "q-1"))

    assert shelf.when(Allocate("C", "LAMP", 1)) is None
    shelf.when(ReleaseQuarantine("here", 1, "q-2"))
    assert shelf.when(Allocate("D", "LAMP", 1)) == "here"


def test_what_is_written_off_is_gone(shelf: Service) -> None:
    shelf.given(Quarantine("here", 2, "damaged", "q-1"))

    shelf.when(WriteOff("here", 2, "damaged", "w-1"))
    shelf.when(WriteOff("here", 2, "damaged", "w-1"))

    assert parts(shelf, "here") == (8, 0, 8, 0, 0, 0)


def test_no_more_is_quarantined_than_is_on_the_shelf_nor_released_than_is_in_quarantine(shelf: Service) -> None:
    shelf.given(Dispatch("A", "d-1", (ParcelLine("LAMP", 5),)), Quarantine("here", 1, "suspect", "q-1"))

    unchanged(shelf, Quarantine("here", 5, "lost", "q-2"), errors.NotEnough, "5 of batch here: 4 are on the shelf")
    unchanged(shelf, ReleaseQuarantine("here", 2, "q-3"), errors.NotEnough, "2 of batch here: 1 are in quarantine")
    unchanged(shelf, WriteOff("here", 2, "lost", "w-1"), errors.NotEnough, "2 of batch here: 1 are in quarantine")


@pytest.mark.parametrize(
    ("first", "other", "says"),
    [
        (Quarantine("here", 2, "damaged", "1"), Quarantine("here", 3, "damaged", "1"), "Quarantine 1 of batch here"),
        (Quarantine("here", 2, "damaged", "1"), Quarantine("here", 2, "lost", "1"), "exists already: 2, damaged"),
        (ReleaseQuarantine("here", 1, "1"), ReleaseQuarantine("here", 2, "1"), "Quarantine release 1 of batch here"),
        (WriteOff("here", 1, "lost", "1"), WriteOff("here", 1, "theft", "1"), "Write off 1 of batch here"),
    ],
)
def test_a_document_counts_once_and_means_one_thing(
    shelf: Service, first: commands.Command, other: commands.Command, says: str
) -> None:
    shelf.given(Quarantine("here", 2, "suspect", "before"))
    answer = shelf.when(first)
    version = len(shelf.history("LAMP"))

    assert shelf.when(first) == answer
    assert len(shelf.history("LAMP")) == version
    unchanged(shelf, other, errors.DocumentConflict, says)


def test_a_quarantine_may_have_the_number_of_a_receipt(ship: Service) -> None:
    ship.given(RECEIPT)

    ship.when(Quarantine("by-ship", 1, "suspect", "r-1"))

    assert parts(ship, "by-ship") == (60, 4, 50, 0, 0, 6)


def test_a_count_of_10_where_13_should_be_is_taken_though_12_are_promised(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 20), Allocate("gone", "LAMP", 5))
    service.given(Dispatch("gone", "d-1", (ParcelLine("LAMP", 5),)), Quarantine("b", 2, "damaged", "q-1"))
    service.given(Allocate("old", "LAMP", 9), Allocate("new", "LAMP", 3))

    service.when(CountBatch("b", counted=10, expected=13, count_id="c-1", reason="lost"))

    assert parts(service, "b") == (17, 1, 9, 0, 5, 2)
    assert service.history("LAMP")[-1] == events.OutOfStock("new", "LAMP", 3, "LAMP")


def test_a_count_on_stale_numbers_says_count_again(service: Service) -> None:
    service.given(CreateBatch("b", "LAMP", 13), Allocate("o1", "LAMP", 1))
    service.given(Dispatch("o1", "d-1", (ParcelLine("LAMP", 1),)))

    unchanged(
        service,
        CountBatch("b", 13, 13, "c-1", "correction"),
        errors.StaleQuantity,
        "12 of batch b are on the shelf now, not 13: count again",
    )


def test_that_somebody_looked_is_a_fact(shelf: Service) -> None:
    count = CountBatch("here", 10, 10, "c-1", "correction")

    assert shelf.when(count) == {"LAMP": 4}
    assert shelf.when(count) == {"LAMP": 4}

    assert shelf.history("LAMP")[3:] == [events.BatchCounted("here", "LAMP", "c-1", 10, 10, "correction")]
    unchanged(shelf, CountBatch("here", 9, 10, "c-1", "lost"), errors.DocumentConflict, "Count c-1 of batch here")


def test_a_batch_cut_below_what_has_left_is_refused_with_the_minimum(shelf: Service) -> None:
    shelf.given(Dispatch("A", "d-1", (ParcelLine("LAMP", 5),)), Quarantine("here", 2, "damaged", "q-1"))

    unchanged(
        shelf,
        ChangeBatchQuantity("here", 6),
        errors.BelowDispatched,
        "Batch here held at least 7: 5 dispatched \\+ 2 quarantined",
    )
    shelf.when(ChangeBatchQuantity("here", 7))
    assert parts(shelf, "here") == (7, 0, 0, 0, 5, 2)


def test_what_expires_first_is_sold_first_and_not_after_its_last_day() -> None:
    stock = [
        CreateBatch("keeps", "MILK", 5),
        CreateBatch("20th", "MILK", 5, expires=date(2026, 3, 20)),
        CreateBatch("10th", "MILK", 5, expires=date(2026, 3, 10)),
    ]
    on_the_10th, on_the_11th = Service(date(2026, 3, 10)), Service(date(2026, 3, 11))

    for service, sold in ((on_the_10th, ["10th", "20th", "keeps"]), (on_the_11th, ["20th", "keeps", None])):
        service.given(*stock)
        assert [service.when(Allocate(f"o{number}", "MILK", 5)) for number in range(3)] == sold


def test_what_is_past_its_day_leaves_quarantine_as_a_write_off_only() -> None:
    service = Service(date(2026, 3, 11))
    service.given(CreateBatch("old", "MILK", 5, expires=date(2026, 3, 10)), Quarantine("old", 5, "expired", "q-1"))

    unchanged(service, ReleaseQuarantine("old", 5, "q-2"), errors.BatchIsExpired, "Batch old expired on 2026-03-10")
    service.when(WriteOff("old", 5, "expired", "w-1"))
    assert parts(service, "old") == (0, 0, 0, 0, 0, 0)
