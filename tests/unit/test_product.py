"""The rules of allocation, one by one."""

from __future__ import annotations

import pickle
from collections.abc import Container, Iterator, Sequence
from copy import copy
from dataclasses import replace
from datetime import date, timedelta

import pytest

from allocation.domain.allocating import allocate
from allocation.domain.batches import Batch
from allocation.domain.commands import Allocate
from allocation.domain.errors import BatchConflict, DomainError, InvalidSku, LineConflict, StaleBatch, UnknownBatch
from allocation.domain.events import Allocated, BatchCreated, BatchQuantityChanged, Deallocated, OutOfStock
from allocation.domain.lines import Allocation, LineKey, Lines, OrderLine, PlacedLine
from allocation.domain.product import Product
from allocation.domain.receiving import add_batch, change_batch_quantity

today = date(2026, 1, 1)
tomorrow = today + timedelta(days=1)
later = today + timedelta(days=10)


def product_with(*batches: tuple[str, int, date | None], sku: str = "TABLE") -> Product:
    product = Product(sku)
    for reference, qty, eta in batches:
        add_batch(product, reference, qty, eta)
    return product


def available(product: Product) -> dict[str, int]:
    return {batch.reference: batch.available_quantity for batch in product.batches.of(product.sku)}


def test_allocating_to_a_batch_reduces_its_available_quantity() -> None:
    product = product_with(("batch-001", 20, None), sku="SMALL-TABLE")

    assert allocate(product, OrderLine("order-ref", "SMALL-TABLE", 2)) == "batch-001"

    assert available(product) == {"batch-001": 18}


def test_can_allocate_exactly_what_is_there() -> None:
    product = product_with(("b1", 2, None))

    assert allocate(product, OrderLine("o1", "TABLE", 2)) == "b1"


def test_a_line_goes_whole_to_one_batch() -> None:
    product = product_with(("b1", 5, None), ("b2", 5, tomorrow))

    assert allocate(product, OrderLine("o1", "TABLE", 6)) is None
    assert available(product) == {"b1": 5, "b2": 5}


def test_prefers_warehouse_batches_to_shipments() -> None:
    product = product_with(("shipment-batch", 100, tomorrow), ("in-stock-batch", 100, None))

    assert allocate(product, OrderLine("oref", "TABLE", 10)) == "in-stock-batch"


def test_prefers_earlier_batches() -> None:
    product = product_with(("slow", 100, later), ("normal", 100, tomorrow), ("speedy", 100, today))

    assert allocate(product, OrderLine("order1", "TABLE", 10)) == "speedy"


def test_among_equals_prefers_the_batch_added_first() -> None:
    product = product_with(("z", 10, tomorrow), ("a", 10, tomorrow))

    assert allocate(product, OrderLine("o1", "TABLE", 10)) == "z"


def test_the_first_batch_with_room_wins_though_a_better_one_is_nearly_empty() -> None:
    product = product_with(("b1", 3, None), ("b2", 10, tomorrow))

    assert allocate(product, OrderLine("o1", "TABLE", 5)) == "b2"
    assert allocate(product, OrderLine("o2", "TABLE", 3)) == "b1"


def test_records_an_allocated_event() -> None:
    product = product_with(("b1", 10, None))

    allocate(product, OrderLine("o1", "TABLE", 10, "line-7"))

    assert product.events[-1] == Allocated("o1", "TABLE", 10, "b1", "line-7")


def test_a_line_without_an_id_is_known_by_its_sku() -> None:
    assert OrderLine("o1", "TABLE", 10).lineid == "TABLE"
    assert Allocate("o1", "TABLE", 10) == Allocate("o1", "TABLE", 10, "TABLE")


@pytest.mark.parametrize(
    "said",
    [
        Allocate("o1", "TABLE", 10, "line-7"),
        Allocated("o1", "TABLE", 10, "b1", "line-7"),
        Deallocated("o1", "TABLE", 10, "b1", "line-7"),
        OutOfStock("o1", "TABLE", 10, "line-7"),
    ],
)
def test_whatever_is_said_of_a_line_it_is_the_same_line(said: Allocate | Allocated | Deallocated | OutOfStock) -> None:
    assert OrderLine.of(said) == OrderLine(orderid="o1", sku="TABLE", qty=10, lineid="line-7")


def test_records_out_of_stock_if_no_batch_has_room() -> None:
    product = product_with(("b1", 10, today), sku="SMALL-FORK")
    allocate(product, OrderLine("order1", "SMALL-FORK", 10))

    assert allocate(product, OrderLine("order2", "SMALL-FORK", 1)) is None

    assert product.events[-1] == OutOfStock("order2", "SMALL-FORK", 1, "SMALL-FORK")


def test_a_sku_that_was_never_purchased_is_invalid() -> None:
    with pytest.raises(InvalidSku, match="Invalid sku NONEXISTENT"):
        allocate(Product("NONEXISTENT"), OrderLine("o1", "NONEXISTENT", 10))


def test_the_same_line_again_names_its_batch_and_changes_nothing() -> None:
    product = product_with(("b1", 10, None), ("b2", 10, tomorrow))
    line = OrderLine("o1", "TABLE", 6)
    allocate(product, line)
    version = product.version_number

    assert allocate(product, line) == "b1"

    assert product.version_number == version
    assert available(product) == {"b1": 4, "b2": 10}


def test_the_same_line_with_another_quantity_is_refused() -> None:
    product = product_with(("b1", 10, None))
    allocate(product, OrderLine("o1", "TABLE", 6))

    with pytest.raises(LineConflict, match="allocated already with 6 of TABLE"):
        allocate(product, OrderLine("o1", "TABLE", 7))

    assert available(product) == {"b1": 4}


def test_equal_lines_of_one_order_with_different_ids_are_both_allocated() -> None:
    product = product_with(("b1", 10, None))

    allocate(product, OrderLine("o1", "TABLE", 3, "1"))
    allocate(product, OrderLine("o1", "TABLE", 3, "2"))

    assert available(product) == {"b1": 4}


def test_the_identical_batch_again_changes_nothing() -> None:
    product = product_with(("b1", 10, tomorrow), ("b1", 10, tomorrow))

    assert product.events == [BatchCreated("b1", "TABLE", 10, tomorrow)]


@pytest.mark.parametrize(("qty", "eta"), [(11, tomorrow), (10, None), (10, today)])
def test_the_same_reference_for_another_batch_is_refused(qty: int, eta: date | None) -> None:
    product = product_with(("b1", 10, tomorrow))

    with pytest.raises(BatchConflict, match="Batch b1 exists already, created with 10 of TABLE"):
        add_batch(product, "b1", qty, eta)


def test_a_batch_is_known_by_what_it_was_created_with_even_after_it_shrank() -> None:
    product = product_with(("b1", 10, None))
    change_batch_quantity(product, "b1", 4)
    version = product.version_number

    add_batch(product, "b1", 10, None)

    assert product.version_number == version


def test_changes_the_available_quantity() -> None:
    product = product_with(("b1", 100, None))

    change_batch_quantity(product, "b1", 50)

    assert available(product) == {"b1": 50}
    assert product.events[-1] == BatchQuantityChanged("b1", "TABLE", 50)


def test_stating_the_same_quantity_changes_nothing() -> None:
    product = product_with(("b1", 100, None))

    change_batch_quantity(product, "b1", 100)

    assert product.version_number == 1


def test_an_unknown_batch_is_refused() -> None:
    with pytest.raises(UnknownBatch, match="Unknown batch b9"):
        change_batch_quantity(product_with(("b1", 100, None)), "b9", 1)


def test_who_has_seen_what_a_batch_is_may_change_it() -> None:
    product = product_with(("b1", 10, None))
    allocate(product, OrderLine("o1", "TABLE", 4))

    change_batch_quantity(product, "b1", 8, seen=[(10, 0, 0, 0, 0, 0, 0), (10, 4, 0, 0, 0, 0, 0)])

    assert product.batches["b1"].revision[:2] == (8, 4)


@pytest.mark.parametrize("seen", [[(10, 0, 0, 0, 0, 0, 0)], [(9, 4, 0, 0, 0, 0, 0)], [(10, 4)], []])
def test_who_has_seen_what_a_batch_no_longer_is_is_refused(seen: list[tuple[int, ...]]) -> None:
    product = product_with(("b1", 10, None))
    allocate(product, OrderLine("o1", "TABLE", 4))
    version = product.version_number

    for qty in (8, 10):  # the same quantity, too: what was seen decides
        with pytest.raises(StaleBatch, match="Batch b1 has changed: 10 purchased and 4 allocated now"):
            change_batch_quantity(product, "b1", qty, seen)

    assert product.version_number == version


def test_a_batch_that_shrinks_breaks_its_newest_promises_first_and_no_more_than_it_must() -> None:
    product = product_with(("b1", 50, None))
    for orderid in ("o1", "o2", "o3"):
        allocate(product, OrderLine(orderid, "TABLE", 10))

    change_batch_quantity(product, "b1", 20)

    assert product.events[4:] == [
        BatchQuantityChanged("b1", "TABLE", 20),
        Deallocated("o3", "TABLE", 10, "b1", "TABLE"),
    ]


def test_broken_promises_are_recorded_oldest_first() -> None:
    product = product_with(("b1", 50, None))
    for orderid in ("o1", "o2", "o3"):
        allocate(product, OrderLine(orderid, "TABLE", 10))

    change_batch_quantity(product, "b1", 10)

    broken = [event.orderid for event in product.events if isinstance(event, Deallocated)]
    assert broken == ["o2", "o3"]


def test_a_line_placed_again_counts_as_newly_promised() -> None:
    product = product_with(("b1", 10, None), ("b2", 30, tomorrow))
    allocate(product, OrderLine("moved", "TABLE", 10))
    allocate(product, OrderLine("stayed", "TABLE", 10))  # in b2
    change_batch_quantity(product, "b1", 0)
    allocate(product, OrderLine("moved", "TABLE", 10))

    change_batch_quantity(product, "b2", 10)

    assert product.events[-1] == Deallocated("moved", "TABLE", 10, "b2", "TABLE")


def test_the_version_is_the_number_of_events() -> None:
    product = Product("TABLE", version_number=7)
    add_batch(product, "b1", 10)
    allocate(product, OrderLine("o1", "TABLE", 3))

    assert product.version_number == 9


class Stored:
    """What was allocated to one batch in earlier transactions, the newest first."""

    def __init__(self, *allocations: Allocation) -> None:
        self._allocations = allocations

    def read_line(self, key: LineKey) -> PlacedLine | None:
        found = [one for one in self._allocations if one.line_key == key]
        return PlacedLine(*key, found[0].sku, tuple(found)) if found else None

    def read_lines(self, keys: Sequence[LineKey]) -> None:
        """All are at hand."""

    def read_lines_of(self, orderid: str) -> list[PlacedLine]:
        raise NotImplementedError(orderid)

    def is_cancelled(self, orderid: str) -> bool:
        return False

    def first_to_break(self, batch: Batch) -> Iterator[Allocation]:
        return iter(one for one in self._allocations if one.batchref == batch.reference)

    def promised_later(self, batch: Batch) -> Iterator[Allocation]:
        raise NotImplementedError(batch)

    def backorders(self, batch: Batch, day: date | None, changed: Container[LineKey]) -> Iterator[PlacedLine]:
        return iter(())


def test_a_promise_that_was_broken_in_this_transaction_is_not_broken_again() -> None:
    old, new = (Allocation("LAMP", version, order, "", 5, "b1") for version, order in ((2, "old"), (3, "new")))
    product = Product("LAMP", version_number=3, lines=Lines(Stored(new, old)))
    product.batches.add(replace(Batch.created(BatchCreated("b1", "LAMP", 10, None), added=1), taken_quantity=10))

    change_batch_quantity(product, "b1", 5)
    change_batch_quantity(product, "b1", 0)

    assert [event.orderid for event in product.events if isinstance(event, Deallocated)] == ["new", "old"]


@pytest.mark.parametrize(
    "refusal",
    [
        InvalidSku("TABLE"),
        UnknownBatch("b1"),
        BatchConflict(Batch.created(BatchCreated("b1", "TABLE", 1, None), added=1)),
        StaleBatch(Batch.created(BatchCreated("b1", "TABLE", 1, None), added=1)),
        LineConflict(PlacedLine("o1", "TABLE", "TABLE")),
    ],
)
def test_a_refusal_can_be_copied_and_sent_to_another_process(refusal: DomainError) -> None:
    for other in (copy(refusal), pickle.loads(pickle.dumps(refusal))):
        assert (type(other), str(other), other.numbers) == (type(refusal), str(refusal), refusal.numbers)
