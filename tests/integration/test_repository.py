"""Products from rows and back: nothing is lost on the way, and no more is loaded than a rule needs."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from allocation.adapters.product_queries import AT_HAND
from allocation.bootstrap import Service
from allocation.domain import allocating, commands, events, receiving
from allocation.domain.batches import Batch
from allocation.domain.errors import LineConflict
from allocation.domain.lines import Allocation, OrderLine, PlacedLine
from messaging.envelope import Request

Sql = Callable[..., list[tuple[Any, ...]]]

tomorrow, later = date(2026, 1, 2), date(2026, 2, 1)


def given(service: Service, *asked: commands.Command) -> None:
    for outcome in service.bus.handle_together([Request(command) for command in asked]):
        outcome.unwrap()


def loaded_batches(service: Service, sku: str) -> list[Batch]:
    with service.bus.unit_of_work() as uow:
        return uow.products.get(sku).batches.of(sku)


# --- there and back ----------------------------------------------------------


def test_every_field_of_a_batch_comes_back(service: Service) -> None:
    given(service, commands.CreateBatch("b0", "LAMP", 1), commands.CreateBatch("b1", "LAMP", 50, tomorrow))
    given(service, commands.Allocate("o1", "LAMP", 7))

    given(service, commands.ChangeBatchQuantity("b1", 40))

    assert loaded_batches(service, "LAMP")[-1] == Batch(
        reference="b1",
        sku="LAMP",
        eta=tomorrow,
        expires=None,
        initial_quantity=50,
        initial_eta=tomorrow,
        initial_expires=None,
        purchased_quantity=40,
        taken_quantity=7,
        held_quantity=0,
        dispatched_quantity=0,
        quarantined_quantity=0,
        added=2,
        location="",
        overdue=False,
        expired=False,
    )


def test_every_field_of_an_allocation_comes_back(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 50))

    given(service, commands.Allocate("o1", "LAMP", 7, "line-1"))

    with service.bus.unit_of_work() as uow:
        lines = uow.products.get("LAMP").lines
        allocation = Allocation("LAMP", 2, "o1", "line-1", promised=7, batchref="b1")
        assert lines.get(("o1", "line-1")) == PlacedLine("o1", "line-1", "LAMP", (allocation,))
        assert lines.get(("o1", "line-2")) is None


def test_batches_come_back_in_the_order_of_preference(service: Service) -> None:
    given(service, commands.CreateBatch("late", "LAMP", 1, later), commands.CreateBatch("first", "LAMP", 1))
    given(service, commands.CreateBatch("early", "LAMP", 1, tomorrow), commands.CreateBatch("second", "LAMP", 1))

    assert [batch.reference for batch in loaded_batches(service, "LAMP")] == ["first", "second", "early", "late"]


def test_batches_are_preferred_in_one_order_wherever_they_are_sorted(service: Service) -> None:
    days = [None, tomorrow, later]
    made = [(eta, expires) for eta in days for expires in days] * 3
    random.Random(1).shuffle(made)
    given(service, *(commands.CreateBatch(f"b{n}", "LAMP", 1, *terms) for n, terms in enumerate(made)))
    with service.bus.unit_of_work() as uow:
        every = [uow.products.get_by_batchref(f"b{n}").batches[f"b{n}"] for n in range(len(made))]
    expected = [batch.reference for batch in sorted(every, key=lambda batch: batch.preference)]

    assert len(every) > AT_HAND, "so some are loaded later"
    with service.bus.unit_of_work() as uow:
        assert [batch.reference for batch in uow.products.get("LAMP").batches.preferred("LAMP")] == expected
    assert [batch.ref for batch in service.views.batches("LAMP", None, 100)[0]] == expected
    found, end = service.views.batches("LAMP", None, 1)
    while end:
        page, end = service.views.batches("LAMP", end, 1)
        found += page
    assert [batch.ref for batch in found] == expected
    [shelf] = service.views.stock_list("LAMP", "", 10).shelves
    assert [batch.ref for batch in shelf.batches] == expected[: len(shelf.batches)]


def test_a_batch_that_moves_to_the_end_takes_no_other_with_it(service: Service) -> None:
    days = [date(2031, 1, number + 1) for number in range(6)]
    given(service, *(commands.CreateBatch(f"b{n}", "LAMP", 1, day) for n, day in enumerate(days)))
    first, end = service.views.batches("LAMP", None, 3)
    assert end

    given(service, commands.ChangeEta(first[-1].ref, date(2031, 2, 1)))

    rest, _ = service.views.batches("LAMP", end, 10)
    assert [batch.ref for batch in rest] == ["b3", "b4", "b5", "b2"]


@pytest.mark.parametrize("together", [True, False])
def test_of_more_batches_than_a_product_is_loaded_with_the_preferred_is_found(
    service: Service, *, together: bool
) -> None:
    """In their order each has room for one line; the one in the middle of them is named before."""
    days = [None, *(date(2030, 1, 1) + timedelta(days=number // 2) for number in range(2 * AT_HAND + 5))]
    references = [f"b{number:02}" for number in range(len(days))]
    batches = [commands.CreateBatch(reference, "S", 1, eta) for reference, eta in zip(references, days, strict=True)]
    given(service, *batches[::2], *batches[1::2])
    asked: list[commands.Command] = [commands.ChangeBatchQuantity("b30", 2)]
    asked += [commands.Allocate(f"o{number}", "S", 1) for number in range(len(days) + 1)]
    if together:
        found = [outcome.unwrap() for outcome in service.bus.handle_together([Request(each) for each in asked])]
    else:
        found = [service.bus.handle(each) for each in asked]

    added = {reference: number for number, reference in enumerate([*references[::2], *references[1::2]])}
    by_preference = sorted(references, key=lambda each: (days[int(each[1:])] or date.min, added[each]))
    place = by_preference.index("b30")
    assert found[1:] == [*by_preference[:place], "b30", *by_preference[place:]]


def test_the_largest_quantities_come_back(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 1_000_000_000), commands.CreateBatch("b2", "LAMP", 1_000_000_000))

    given(service, commands.Allocate("o1", "LAMP", 1_000_000), commands.ChangeBatchQuantity("b1", 999_999_999))

    [first, _] = loaded_batches(service, "LAMP")
    assert (first.purchased_quantity, first.taken_quantity) == (999_999_999, 1_000_000)


def test_names_are_told_apart_by_every_byte(service: Service) -> None:
    """É in one code point and in two, upper and lower case: different SKUs, as in the caller's own system."""
    skus = ["caf\u00c9", "cafE\u0301", "CAF\u00c9", "caf\u00e9"]

    given(service, *(commands.CreateBatch(f"b{number}", sku, number) for number, sku in enumerate(skus)))

    for number, sku in enumerate(skus):
        assert service.bus.handle(commands.CreateBatch(f"b{number}", sku, number)) is None, "known as it was written"
        given(service, commands.ChangeBatchQuantity(f"b{number}", 5))
        assert [batch.reference for batch in loaded_batches(service, sku)] == [f"b{number}"]


def test_the_longest_names_fit_everywhere_at_once(service: Service, differences: Callable[[], list[str]]) -> None:
    chance = random.Random(1)  # incompressible, so that nothing fits by luck
    sku, ref, other, orderid, lineid = (
        "".join(chr(chance.randrange(0x1F300, 0x1FAF0)) for _ in range(255)) for _ in range(5)
    )
    given(service, commands.CreateBatch(ref, sku, 10), commands.CreateBatch(other, sku, 10, tomorrow))
    given(service, commands.Allocate(orderid, sku, 4, lineid))

    given(service, commands.ChangeBatchQuantity(ref, 0))

    assert service.views.allocations(orderid) == [{"sku": sku, "batchref": other}]
    assert service.bus.handle(commands.Allocate(orderid, sku, 4, lineid)) == other
    assert len(service.relay.deliveries.claim("publish_event")) == 1
    assert differences() == []


# --- constant time -----------------------------------------------------------


def test_exhausted_batches_are_not_loaded(service: Service) -> None:
    given(service, *(commands.CreateBatch(f"b{number}", "LAMP", 5) for number in range(4)))
    given(service, *(commands.Allocate(f"o{number}", "LAMP", 5) for number in range(3)))

    assert [batch.reference for batch in loaded_batches(service, "LAMP")] == ["b3"]


def test_a_product_without_open_batches_is_still_known(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5), commands.Allocate("o1", "LAMP", 5))

    assert loaded_batches(service, "LAMP") == []
    assert service.bus.handle(commands.Allocate("o2", "LAMP", 5)) is None, "out of stock, not an invalid SKU"


def test_an_exhausted_batch_is_found_by_its_name(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5), commands.Allocate("o1", "LAMP", 5))

    given(service, commands.CreateBatch("b1", "LAMP", 5))
    given(service, commands.ChangeBatchQuantity("b1", 6))

    assert service.bus.handle(commands.Allocate("o2", "LAMP", 1)) == "b1"


def test_a_line_promised_from_an_exhausted_batch_is_known(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5), commands.Allocate("o1", "LAMP", 5))
    given(service, commands.CreateBatch("b2", "LAMP", 5))

    assert service.bus.handle(commands.Allocate("o1", "LAMP", 5)) == "b1"
    with pytest.raises(LineConflict, match="5 of LAMP"):
        service.bus.handle(commands.Allocate("o1", "LAMP", 4))


# --- promises of earlier transactions ----------------------------------------


def orders(service: Service, sku: str) -> dict[str, str]:
    with service.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT orderid, batchref FROM allocations_view WHERE sku = %s", (sku,))
        return {row.orderid: row.batchref for row in rows}


def test_a_batch_cut_moves_its_newest_lines_however_many(
    service: Service, sql: Sql, differences: Callable[[], list[str]]
) -> None:
    """More than are read at a time."""
    lines = [f"o{number:03}" for number in range(540)]
    given(service, commands.CreateBatch("b1", "LAMP", 540), commands.CreateBatch("b2", "LAMP", 540, tomorrow))
    given(service, *(commands.Allocate(orderid, "LAMP", 1) for orderid in lines))

    service.bus.handle(commands.ChangeBatchQuantity("b1", 30))

    assert orders(service, "LAMP") == {orderid: "b1" if orderid < "o030" else "b2" for orderid in lines}
    broken = sql("SELECT data ->> 'orderid' FROM event_log WHERE type = 'deallocated.v1' ORDER BY version")
    assert [orderid for (orderid,) in broken] == lines[30:], "recorded and placed oldest promise first"
    assert differences() == []


def test_a_line_placed_again_counts_as_newly_promised(service: Service, engine: Engine) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 10), commands.CreateBatch("b2", "LAMP", 20, tomorrow))
    given(service, commands.Allocate("moved", "LAMP", 10))
    given(service, commands.Allocate("stays", "LAMP", 10))
    given(service, commands.ChangeBatchQuantity("b1", 0))
    assert orders(service, "LAMP") == {"moved": "b2", "stays": "b2"}

    given(service, commands.ChangeBatchQuantity("b2", 10))

    assert orders(service, "LAMP") == {"stays": "b2"}, "the one that was moved later is the newer promise"


def test_a_line_that_lost_its_place_may_be_asked_for_again(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 10), commands.Allocate("o1", "LAMP", 10))
    given(service, commands.ChangeBatchQuantity("b1", 0))
    assert sql("SELECT orderid, version FROM order_lines") == [("o1", None)]
    assert sql("SELECT orderid FROM allocations") == []

    given(service, commands.CreateBatch("b2", "LAMP", 10))

    assert service.bus.handle(commands.Allocate("o1", "LAMP", 10)) == "b2"


# --- the order of writing ------------------------------------------------------


def test_rows_are_written_sorted_by_key_and_the_tables_in_one_order(service: Service) -> None:
    """So that two transactions that write the same keys meet at the first of them, and can't deadlock."""
    given(service, *(commands.CreateBatch(f"b-{sku}", sku, 9) for sku in "AZ"), commands.Allocate("o9", "Z", 1))

    with service.bus.unit_of_work() as uow:
        for sku, orderid in (("Z", "o2"), ("A", "o3"), ("Y", "o1")):
            receiving.add_batch(uow.products.get(sku), f"new-{sku}", 5)
            allocating.allocate(uow.products.get(sku), OrderLine(orderid, sku, 5))
        receiving.change_batch_quantity(uow.products.get("Z"), "b-Z", 0)
        written = [(write.table, rows) for write, rows in uow.products.statements() if rows]  # type: ignore[attr-defined]  # the SQL one

    assert [table for table, _ in written] == [
        *("products", "products", "batch_references", "batches", "batches"),
        *("orders", "order_lines", "order_lines", "allocations", "allocations"),
    ]
    for table, rows in written:
        keys = {"products": "sku", "batches": "reference", "batch_references": "reference", "order_lines": "orderid"}
        keys["orders"] = "orderid"
        if key := keys.get(table):
            assert [row[key] for row in rows] == sorted(row[key] for row in rows)
        # To make JSON of a kind of text, such as the name that SQLAlchemy has of a column, takes twenty times as long.
        assert {type(name) for row in rows for name in row} == {str}, table


# --- the last line of defence ------------------------------------------------


@pytest.mark.parametrize("allocated", ["purchased_quantity + 1", "-1"])
def test_the_database_refuses_to_promise_more_than_there_is_or_less_than_nothing(
    service: Service, sql: Sql, allocated: str
) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 10))

    with pytest.raises(IntegrityError, match="batches_never_oversold"):
        sql(f"UPDATE batches SET allocated_quantity = {allocated}")


def test_the_database_never_sees_the_moment_in_which_a_batch_is_short(service: Service, engine: Engine) -> None:
    """All changes of a row in one transaction are written as one."""
    given(service, commands.CreateBatch("b1", "LAMP", 10), commands.Allocate("o1", "LAMP", 6))
    given(service, commands.Allocate("o2", "LAMP", 4))

    given(service, commands.ChangeBatchQuantity("b1", 5), commands.ChangeBatchQuantity("b1", 6))

    [batch] = loaded_batches(service, "LAMP")
    assert (batch.purchased_quantity, batch.taken_quantity) == (6, 4)
    assert events.OutOfStock("o1", "LAMP", 6, "LAMP") in [
        recorded.event
        for claim in service.relay.deliveries.claim("send_out_of_stock_notification")
        for recorded in (letter.read() for letter in claim.messages)
    ]
