"""What must hold whatever is asked, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch
from allocation.domain.events import Deallocated
from allocation.domain.model import Batch, DomainError, EmptyArchive, LineKey, OrderLine, Preference, Product, Promise

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
    match command:
        case CreateBatch():
            product.add_batch(command.ref, command.qty, command.eta)
        case Allocate():
            product.allocate(OrderLine.of(command))
        case ChangeBatchQuantity():
            seen = len(product.events)
            product.change_batch_quantity(command.ref, command.qty)
            for event in product.events[seen:]:
                if isinstance(event, Deallocated):
                    product.allocate(OrderLine.of(event))


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
    assert all(0 <= batch.available_quantity <= batch.purchased_quantity for batch in after(asked).batches)


@given(requests)
def test_what_a_batch_has_allocated_is_the_sum_of_its_lines(asked: list[Command]) -> None:
    product = after(asked)

    for batch in product.batches:
        kept = sum(promise.line.qty for promise in product.promises if promise.batchref == batch.reference)
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

    assert again.batches == product.batches
    assert again.promises == product.promises


@given(requests)
def test_every_line_has_the_best_batch_that_had_room_when_it_was_promised(asked: list[Command]) -> None:
    product = Product("SKU")
    for command in asked:
        if isinstance(command, Allocate):
            line = OrderLine.of(command)
            known = {promise.line.key for promise in product.promises}
            room = [batch.reference for batch in product.batches if batch.available_quantity >= line.qty]
            if product.version_number and line.key not in known:
                assert product.allocate(line) == next(iter(room), None)
                continue
        try:
            ask(product, command)
        except DomainError:
            continue


class Stored(EmptyArchive):
    """Another product, as it was when it was stored."""

    def __init__(self, product: Product) -> None:
        self.open = [copy(batch) for batch in product.batches if batch.available_quantity]
        self._batches = {batch.reference: copy(batch) for batch in product.batches}
        self._promises = product.promises

    def open_batches_behind(self, horizon: Preference, sku: str) -> Iterator[Batch]:
        return (copy(batch) for batch in self.open if batch.preference > horizon)

    def batch(self, reference: str) -> Batch | None:
        return copy(self._batches.get(reference))

    def promise(self, key: LineKey) -> Promise | None:
        return next((promise for promise in self._promises if promise.line.key == key), None)

    def newest_promises(self, batch: Batch) -> Iterator[Promise]:
        return (promise for promise in reversed(self._promises) if promise.batchref == batch.reference)


many_references = st.integers(1, 8).map("b{}".format)
stock = st.lists(st.builds(CreateBatch, many_references, st.just("SKU"), st.integers(0, 20), etas), max_size=8)


@given(stock, requests, st.integers(1, 4), requests)
def test_it_makes_no_difference_how_many_open_batches_a_product_is_loaded_with(
    bought: list[CreateBatch], asked: list[Command], few: int, asked_then: list[Command]
) -> None:
    whole = after([*bought, *asked])
    stored = Stored(whole)
    at_hand = [copy(batch) for batch in stored.open[:few]]
    horizon = at_hand[-1].preference if len(at_hand) == few else None
    loaded = Product("SKU", at_hand, whole.version_number, stored, horizon)
    seen = len(whole.events)

    for command in asked_then:
        for product in (whole, loaded):
            with suppress(DomainError):
                ask(product, command)

    assert loaded.events == whole.events[seen:]
