"""What must hold whatever is asked, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from allocation.domain.allocating import allocate
from allocation.domain.batches import Batch, Batches, Preference
from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch
from allocation.domain.errors import DomainError
from allocation.domain.events import Deallocated
from allocation.domain.lines import Allocation, Allocations, LineKey, OrderLine
from allocation.domain.product import Product
from allocation.domain.receiving import add_batch, change_batch_quantity

references = st.sampled_from(["b1", "b2", "b3"])
etas = st.none() | st.sampled_from([date(2026, 1, 1), date(2026, 1, 2)])
orders = st.sampled_from(["o1", "o2", "o3", "o4", "o5"])
commands = st.one_of(
    st.builds(CreateBatch, references, st.just("SKU"), st.integers(0, 30), etas),
    st.builds(Allocate, orders, st.just("SKU"), st.integers(1, 12), st.sampled_from(["", "1", "2"])),
    st.builds(ChangeBatchQuantity, references, st.integers(0, 30)),
)
requests = st.lists(commands, max_size=30)


def ask(product: Product, command: Command) -> None:
    """As the handlers and policies do it."""
    before = len(product.events)
    match command:
        case CreateBatch():
            add_batch(product, command.ref, command.qty, command.eta)
        case Allocate():
            allocate(product, OrderLine.of(command))
        case ChangeBatchQuantity():
            change_batch_quantity(product, command.ref, command.qty)
    for event in product.events[before:]:
        if isinstance(event, Deallocated):
            allocate(product, OrderLine.of(event))


def after(asked: list[Command]) -> Product:
    product = Product("SKU")
    for command in asked:
        try:
            ask(product, command)
        except DomainError:
            continue
    return product


@given(requests)
def test_a_product_is_nothing_but_its_history(asked: list[Command]) -> None:
    product = after(asked)

    assert Product.replay("SKU", product.events) == product


@given(requests)
def test_we_never_promise_what_we_do_not_have(asked: list[Command]) -> None:
    assert all(0 <= batch.available_quantity <= batch.purchased_quantity for batch in after(asked).batches.of("SKU"))


@given(requests)
def test_what_a_batch_has_allocated_is_the_sum_of_its_lines(asked: list[Command]) -> None:
    product = after(asked)

    for batch in product.batches.of("SKU"):
        kept = sum(allocation.line.qty for allocation in product.allocations if allocation.batchref == batch.reference)
        assert batch.allocated_quantity == kept


@given(requests, commands)
def test_a_refused_command_changes_nothing(asked: list[Command], last: Command) -> None:
    product = after(asked)
    before = Product.replay("SKU", product.events)

    try:
        ask(product, last)
    except DomainError:
        assert product == before


@given(requests, commands)
def test_asking_twice_is_asking_once_unless_out_of_stock(asked: list[Command], last: Command) -> None:
    product = after([*asked, last])
    again = after([*asked, last, last])

    assert again.batches.of("SKU") == product.batches.of("SKU")
    assert list(again.allocations) == list(product.allocations)


@given(requests)
def test_every_line_has_the_best_batch_that_had_room_when_it_was_promised(asked: list[Command]) -> None:
    product = Product("SKU")
    for command in asked:
        if isinstance(command, Allocate):
            line = OrderLine.of(command)
            known = {allocation.line.key for allocation in product.allocations}
            room = [batch.reference for batch in product.batches.of("SKU") if batch.available_quantity >= line.qty]
            if product.version_number and line.key not in known:
                assert allocate(product, line) == next(iter(room), None)
                continue
        try:
            ask(product, command)
        except DomainError:
            continue


class Stored:
    """Another product, as it was when it was stored."""

    def __init__(self, product: Product) -> None:
        batches = product.batches.of("SKU")
        self.open = [copy(batch) for batch in batches if batch.available_quantity]
        self.horizon: Preference | None = None
        self._batches = {batch.reference: copy(batch) for batch in batches}
        self._allocations = list(product.allocations)

    def later_batches(self, sku: str) -> Iterator[Batch]:
        return (copy(batch) for batch in self.open if self.horizon and batch.preference > self.horizon)

    def batch(self, reference: str) -> Batch | None:
        return copy(self._batches.get(reference))

    def allocation(self, key: LineKey) -> Allocation | None:
        return next((allocation for allocation in self._allocations if allocation.line.key == key), None)

    def newest_allocations(self, batch: Batch) -> Iterator[Allocation]:
        return (one for one in reversed(self._allocations) if one.batchref == batch.reference)


many_references = st.integers(1, 8).map("b{}".format)
stock = st.lists(st.builds(CreateBatch, many_references, st.just("SKU"), st.integers(0, 20), etas), max_size=8)


@given(stock, requests, st.integers(1, 4), requests)
def test_it_makes_no_difference_how_many_open_batches_a_product_is_loaded_with(
    bought: list[CreateBatch], asked: list[Command], few: int, asked_then: list[Command]
) -> None:
    whole = after([*bought, *asked])
    stored = Stored(whole)
    at_hand = [copy(batch) for batch in stored.open[:few]]
    stored.horizon = at_hand[-1].preference if len(at_hand) == few else None
    batches = Batches(stored)
    batches.load("SKU", at_hand, stored.horizon)
    loaded = Product("SKU", whole.version_number, batches, Allocations(stored))
    seen = len(whole.events)

    for command in asked_then:
        for product in (whole, loaded):
            with suppress(DomainError):
                ask(product, command)

    assert loaded.events == whole.events[seen:]
