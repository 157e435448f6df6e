"""What must hold whatever is asked, in whatever order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from tests import anything
from tests.anything import Later
from tests.fakes import NOON, FakeNotifications, FakePublisher
from tests.replay import replay, state_of

from allocation.domain.allocating import allocate, choose
from allocation.domain.batches import Batch, Batches, Preference
from allocation.domain.commands import (
    Allocate,
    CancelOrder,
    Command,
    CreateBatch,
    OrderedLine,
    PlaceOrder,
)
from allocation.domain.documents import DocumentedEvent, DocumentKey, Documents
from allocation.domain.errors import DomainError, InvalidSku, UnknownBatch, UnknownLine
from allocation.domain.events import Allocated, Backordered, Deallocated, LineReleased, OutOfStock
from allocation.domain.explaining import Earliest, earliest, explain
from allocation.domain.holding import end_due
from allocation.domain.holds import Hold, HoldKey, Holds
from allocation.domain.lines import Allocation, LineKey, Lines, LineTerms, OrderLine, PlacedLine, there_on
from allocation.domain.product import Product
from allocation.domain.receiving import change_batch_quantity
from allocation.service_layer.routing import routes
from messaging.routes import Routes

commands = anything.commands(["SKU"])
requests = st.lists(st.one_of(commands, commands, commands, anything.laters), max_size=30)


@pytest.mark.parametrize("kind", get_args(Command))
def test_the_laws_try_every_command(kind: type) -> None:
    find(
        commands,
        lambda command: isinstance(command, kind),
        settings=settings(max_examples=2_000, phases=[Phase.generate]),
    )


class OneProduct:
    """As much of a unit of work as the handlers ask of it, with one SKU."""

    def __init__(self, product: Product) -> None:
        self.products = self
        self._product = product
        self.allocations_view = self

    def get(self, sku: str) -> Product:
        assert sku == "SKU"
        return self._product

    def get_by_batchref(self, batchref: str) -> Product:
        if not self._product.batches.get(batchref):
            raise UnknownBatch(batchref)
        return self._product

    def line(self, orderid: str, lineid: str) -> PlacedLine:
        line = self._product.lines.get((orderid, lineid))
        if line is None:
            raise UnknownLine(orderid, lineid)
        return line

    def lines_of(self, orderid: str) -> list[PlacedLine]:
        return self._product.lines.of_order(orderid)

    def show(self, key: LineKey, line: PlacedLine | None) -> None:
        """Nobody looks."""


TABLE: Routes[Any] = routes(FakeNotifications(), FakePublisher(), "stock@made.com")


class Clock:
    """Stands still, until somebody says how much later it is."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        return self.time

    def today(self) -> date:
        return self.time.date()


def new_product(clock: Clock | None = None) -> Product:
    clock = clock or Clock()
    return Product("SKU", now=clock.now, today=clock.today)


def ask(product: Product, command: Command | Later) -> None:
    """As the bus does it, and whoever has loaded the product before."""
    if isinstance(command, Later):
        clock: Clock = product.now.__self__  # type: ignore[attr-defined]
        clock.time += timedelta(seconds=command.seconds)
    due = [hold for hold in product.holds.of_sku("SKU").values() if hold.until <= product.now()]
    end_due(product, sorted(due, key=lambda hold: (hold.until, hold.version)))
    if isinstance(command, Later):
        return
    following = len(product.events)
    uow = OneProduct(product)
    TABLE.handler(type(command))(command, uow)
    while following < len(product.events):
        event = product.events[following]
        following += 1
        for policy in TABLE.policies(type(event)):
            policy(event, uow)


def after(asked: list[Command | Later]) -> Product:
    product = new_product()
    for command in asked:
        with suppress(DomainError):
            ask(product, command)
    return product


@given(requests)
def test_a_product_is_nothing_but_its_history(asked: list[Command | Later]) -> None:
    product = after(asked)
    product.keep_tentative()

    assert state_of(replay("SKU", product.events)) == state_of(product)


@given(requests)
def test_we_never_promise_what_we_do_not_have(asked: list[Command | Later]) -> None:
    assert all(0 <= batch.available_quantity <= batch.purchased_quantity for batch in after(asked).batches.of("SKU"))


@given(requests)
def test_each_unit_of_a_batch_is_in_one_place_and_the_lines_say_the_same(asked: list[Command | Later]) -> None:
    product = after(asked)

    for batch in product.batches.of("SKU"):
        allocations = [line.of_batch(batch.reference) for line in product.lines.of_sku("SKU").values()]
        has = [allocation for allocation in allocations if allocation]
        assert batch.promised_quantity == sum(allocation.promised for allocation in has)
        assert batch.dispatched_quantity == sum(allocation.dispatched for allocation in has)
        held = [hold.qty for hold in product.holds.of_sku("SKU").values() if hold.batchref == batch.reference]
        assert batch.held_quantity == sum(held)
        assert min(batch.promised_quantity, batch.dispatched_quantity, batch.quarantined_quantity) >= 0
        assert batch.is_received or not (batch.dispatched_quantity or batch.quarantined_quantity)
    assert product.hold_count == len(product.holds.of_sku("SKU"))


@given(requests)
def test_nothing_is_promised_to_a_cancelled_order(asked: list[Command | Later]) -> None:
    product = after(asked)

    assert not any(line.promised for orderid in product.lines.cancelled for line in product.lines.of_order(orderid))


@given(requests)
def test_nobody_waits_who_fits(asked: list[Command | Later]) -> None:
    """So a newcomer gets only what nobody who waits can use."""
    product = after(asked)

    waiting = [line for line in product.lines.of_sku("SKU").values() if line.waiting]
    assert product.waiting == len(waiting)
    for line in waiting:
        assert not choose(product, line.waiting, line.terms), line


@given(requests)
def test_each_unit_of_a_line_is_in_one_place(asked: list[Command | Later]) -> None:
    """By what was asked for and given up alone."""
    product = after(asked)
    product.keep_tentative()

    asked_for: Counter[LineKey] = Counter()
    for event in product.events:
        if (isinstance(event, Allocated) and not event.waited) or isinstance(event, Backordered):
            asked_for[event.orderid, event.lineid] += event.qty
        elif isinstance(event, Deallocated | LineReleased):
            asked_for[event.orderid, event.lineid] -= event.qty
    assert {key: line.qty for key, line in product.lines.of_sku("SKU").items() if line.qty} == +asked_for
    assert not product.lines.displaced


orders = st.builds(
    PlaceOrder,
    st.just("new"),
    st.lists(
        st.builds(OrderedLine, st.just("SKU"), st.integers(1, 12), st.sampled_from(["1", "2", "3"])),
        min_size=1,
        max_size=3,
        unique_by=lambda line: line.lineid,
    ).map(tuple),
    anything.modes,
    anything.priorities,
    anything.days,
    st.booleans(),
    anything.wanted,
).map(anything.possible)


@given(requests, orders)
def test_an_order_that_is_all_or_nothing_is_whole_or_out_of_stock_and_nothing_else(
    asked: list[Command | Later], order: PlaceOrder
) -> None:
    product = after(asked)
    ask(product, Later(0))
    product.keep_tentative()  # with holds that had run out
    before = len(product.events)
    whole = replace(order, mode="all_or_nothing")

    with suppress(InvalidSku):
        ask(product, whole)

    new = product.events[before:]
    if any(isinstance(event, OutOfStock) for event in new):
        assert all(isinstance(event, OutOfStock) for event in new)
    elif new:
        lines = {line.lineid: line for line in product.lines.of_order("new")}
        assert {lineid: (line.promised, line.waiting) for lineid, line in lines.items()} == {
            line.lineid: (line.qty, 0) for line in whole.lines
        }


@given(requests, orders)
@settings(max_examples=200)
def test_explain_names_the_batches_that_an_order_gets(asked: list[Command | Later], order: PlaceOrder) -> None:
    product = after(asked)
    alone = replace(order, mode="partial" if order.may_split else "backorder", lines=order.lines[:1])
    [line] = alone.lines
    if not product.version_number:
        return

    explained = explain(product, line.qty, LineTerms.of_order(alone))
    ask(product, alone)

    has = [one.batchref for one in product.lines["new", line.lineid].allocations]
    assert explained.verdict == (has[0] if len(has) == 1 else has or None)
    assert {one.ref for one in explained.candidates if one.verdict == "taken"} == set(has)


@given(requests, orders)
@settings(max_examples=200)
def test_the_earliest_day_is_that_of_the_last_piece_that_an_order_gets(
    asked: list[Command | Later], order: PlaceOrder
) -> None:
    product = after(asked)
    alone = replace(order, mode="partial" if order.may_split else "backorder", lines=order.lines[:1])
    [line] = alone.lines
    if not product.version_number:
        return

    found = earliest(product, line.qty, LineTerms.of_order(alone))
    ask(product, alone)

    placed = product.lines["new", line.lineid]
    if placed.waiting:
        assert found is None
    else:
        etas = [product.batches[one.batchref].eta for one in placed.allocations]
        refs = [one.batchref for one in placed.allocations]
        assert found == Earliest(
            max(there_on(eta, product.today()) for eta in etas), refs[0] if len(refs) == 1 else refs
        )


@given(requests, orders)
def test_what_is_placed_and_cancelled_leaves_every_number_as_it_was_when_nobody_waits(
    asked: list[Command | Later], order: PlaceOrder
) -> None:
    product = after(asked)
    before = [(batch.reference, batch.taken_quantity) for batch in product.batches.of("SKU")]
    if product.waiting:
        return

    with suppress(DomainError):
        ask(product, order)
        ask(product, CancelOrder("new"))

    assert [(batch.reference, batch.taken_quantity) for batch in product.batches.of("SKU")] == before
    assert product.waiting == 0


@given(requests, anything.references, st.integers(0, 30))
def test_of_the_lowest_priority_the_newest_are_broken_and_no_more_than_must_be(
    asked: list[Command | Later], ref: str, qty: int
) -> None:
    product = after(asked)
    batch = product.batches.get(ref)
    if batch is None:
        return
    allocations = [line.of_batch(ref) for line in product.lines.of_sku("SKU").values()]
    promises = [one for one in allocations if one and one.promised]
    weakest = sorted(promises, key=lambda one: (product.lines[one.line_key].terms.priority, -one.version))
    before = len(product.events)

    with suppress(DomainError):
        change_batch_quantity(product, ref, qty)

    lost = [event for event in product.events[before:] if isinstance(event, Deallocated)][::-1]
    assert [(event.orderid, event.lineid) for event in lost] == [one.line_key for one in weakest[: len(lost)]]
    for event, promise in zip(lost[:-1], weakest, strict=False):
        assert event.qty == promise.promised
    for event, promise in zip(lost[-1:], weakest[len(lost) - 1 :], strict=False):
        may_split = product.lines[promise.line_key].terms.may_split
        assert batch.available_quantity < (1 if may_split else event.qty)
        assert event.qty == promise.promised or may_split


@given(requests, commands)
def test_a_refused_command_changes_nothing(asked: list[Command | Later], last: Command) -> None:
    product = after(asked)
    events = list(product.events)

    try:
        ask(product, last)
    except DomainError:
        assert product.events == events
        assert state_of(product) == state_of(after(asked))


@given(requests, commands)
def test_asking_twice_is_asking_once_unless_out_of_stock(asked: list[Command | Later], last: Command) -> None:
    product = after([*asked, last])
    again = after([*asked, last, last])

    assert again.batches.of("SKU") == product.batches.of("SKU")
    assert again.lines == product.lines
    assert again.documents == product.documents


@given(requests)
def test_every_line_has_the_best_batch_that_had_room_when_it_was_promised(asked: list[Command | Later]) -> None:
    product = new_product()
    for command in asked:
        if isinstance(command, Allocate):
            line = OrderLine.of(command)
            placed = product.lines.get(line.key)
            ask(product, Later(0))
            room = [
                batch.reference
                for batch in product.batches.of("SKU")
                if batch.available_quantity >= line.qty and not (batch.expires and batch.expires < product.today())
            ]
            is_new = not (placed and placed.qty) and not product.lines.is_cancelled(line.orderid)
            if product.version_number and is_new:
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
        self._lines = dict(product.lines.changed)
        self._cancelled = set(product.lines.cancelled)
        self._documents = dict(product.documents.new)
        self._holds = dict(product.holds.changed)

    def later_batches(self, sku: str) -> Iterator[Batch]:
        return (copy(batch) for batch in self.open if self.horizon and batch.preference > self.horizon)

    def batch(self, reference: str) -> Batch | None:
        return copy(self._batches.get(reference))

    def read_line(self, key: LineKey) -> PlacedLine | None:
        return self._lines.get(key)

    def read_lines(self, keys: Sequence[LineKey]) -> None:
        """All are at hand."""

    def read_lines_of(self, orderid: str) -> list[PlacedLine]:
        return [line for key, line in self._lines.items() if key[0] == orderid]

    def is_cancelled(self, orderid: str) -> bool:
        return orderid in self._cancelled

    def first_to_break(self, batch: Batch) -> Iterator[Allocation]:
        found = [line.of_batch(batch.reference) for line in self._lines.values()]
        promised = (one for one in found if one and one.promised)
        return iter(sorted(promised, key=lambda one: (one.priority, -one.version)))

    def promised_later(self, batch: Batch) -> Iterator[Allocation]:
        lines = (line for line in self._lines.values() if line.sku == batch.sku)
        promised = [one for line in lines for one in line.promises]
        later = (one for one in promised if self._batches[one.batchref].preference > batch.preference)
        return iter(sorted(later, key=lambda one: (-one.priority, one.version)))

    def read_hold(self, key: HoldKey) -> Hold | None:
        return self._holds.get(key)

    def holds_to_break(self, batch: Batch) -> Iterator[Hold]:
        there = (hold for hold in self._holds.values() if hold and hold.batchref == batch.reference)
        return iter(sorted(there, key=lambda hold: -hold.version))

    def backorders(self, batch: Batch, day: date | None, changed: Container[LineKey]) -> Iterator[PlacedLine]:
        waiting = (line for line in self._lines.values() if line.waiting and line.sku == batch.sku)
        return iter(sorted(waiting, key=lambda line: line.turn))

    def read_batches(self, references: Iterable[str]) -> None:
        """All are at hand."""

    def document(self, key: DocumentKey) -> list[DocumentedEvent]:
        return list(self._documents.get(key, ()))


many_references = st.integers(1, 8).map("b{}".format)
stock = st.lists(st.builds(CreateBatch, many_references, st.just("SKU"), st.integers(0, 20), anything.etas), max_size=8)


@given(stock, requests, st.integers(1, 4), requests)
def test_it_makes_no_difference_how_many_open_batches_a_product_is_loaded_with(
    bought: list[CreateBatch], asked: list[Command | Later], few: int, asked_then: list[Command | Later]
) -> None:
    whole = after([*bought, *asked])
    whole.keep_tentative()
    stored = Stored(whole)
    at_hand = [copy(batch) for batch in stored.open[:few]]
    stored.horizon = at_hand[-1].preference if len(at_hand) == few else None
    batches = Batches(stored)
    batches.load("SKU", at_hand, stored.horizon)
    together = batches, Lines(stored), Documents(stored)
    loaded = Product(
        "SKU",
        whole.version_number,
        *together,
        holds=Holds(stored),
        waiting=whole.waiting,
        hold_count=whole.hold_count,
        now=whole.now,
        today=whole.today,
    )
    seen = len(whole.events)

    for command in asked_then:
        if isinstance(command, Later):  # holds of earlier transactions run out when the product is loaded
            continue
        for product in (whole, loaded):
            with suppress(DomainError):
                ask(product, command)

    assert loaded.events == whole.events[seen:]
