"""One contract for two units of work: the fake that unit tests rely on, and the real one at REPEATABLE READ."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import count
from threading import Event, Thread
from typing import Any, Protocol
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from tests import fakes

from allocation.adapters.wire_names import CODEC
from allocation.bootstrap import Service
from allocation.database.tables import allocations_view
from allocation.domain import allocating, commands, events, receiving
from allocation.domain.commands import Command
from allocation.domain.errors import BatchConflict, InvalidSku, LineConflict, UnknownBatch
from allocation.domain.lines import OrderLine
from allocation.service_layer.ports import UnitOfWork
from embedded.waiting import wait_for
from messaging.bus import MessageBus
from messaging.envelope import Metadata, NewEvent, Outcome, Recorded, Request
from messaging.errors import ConcurrencyConflict, MessageIdReused
from messaging.retry import Retry
from messaging.sql import tables
from messaging.sql.event_log import RECORDED, recorded_from

AtOnce = Callable[..., list[Any]]

tomorrow = date(2026, 1, 2)


class World(Protocol):
    """A service, and what can be seen of it from outside."""

    @property
    def bus(self) -> MessageBus[UnitOfWork]: ...

    def unit_of_work(self) -> AbstractContextManager[UnitOfWork]: ...

    def log(self, sku: str) -> list[Recorded[object]]: ...

    def allocations(self) -> list[tuple[str, str, str, int, str]]:
        """Order, line, SKU, quantity and batch of each allocated line, in allocation order."""
        ...

    def waiting_effects(self) -> set[tuple[str, str, int]]:
        """Effect, stream and version of each."""
        ...


class FakeWorld:
    def __init__(self) -> None:
        self._service = fakes.Service()
        self.bus = self._service.bus
        self.unit_of_work = self._service.unit_of_work

    def log(self, sku: str) -> list[Recorded[object]]:
        return list(self._service.memory.log.get(sku, []))

    def allocations(self) -> list[tuple[str, str, str, int, str]]:
        return [(one.orderid, one.lineid, one.sku, one.qty, one.batchref) for one in self._service.shown]

    def waiting_effects(self) -> set[tuple[str, str, int]]:
        return {(one.effect, one.recorded.stream, one.recorded.version) for one in self._service.memory.outbox}


class RealWorld:
    def __init__(self, service: Service) -> None:
        self._engine = service.engine
        self.bus = service.bus
        self.unit_of_work = service.bus.unit_of_work

    def log(self, sku: str) -> list[Recorded[object]]:
        query = text(f"SELECT stream, version, {RECORDED} FROM event_log WHERE stream = :sku ORDER BY version")
        with self._engine.connect() as connection:
            return [recorded_from(row, CODEC) for row in connection.execute(query, {"sku": sku})]

    def allocations(self) -> list[tuple[str, str, str, int, str]]:
        view = allocations_view.c
        query = select(view.orderid, view.lineid, view.sku, view.qty, view.batchref).order_by(view.position)
        with self._engine.connect() as connection:
            return [(row.orderid, row.lineid, row.sku, row.qty, row.batchref) for row in connection.execute(query)]

    def waiting_effects(self) -> set[tuple[str, str, int]]:
        with self._engine.connect() as connection:
            return {(row.effect, row.stream, row.version) for row in connection.execute(select(tables.outbox))}


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    return FakeWorld() if request.param == "fake" else RealWorld(request.getfixturevalue("service"))


@pytest.fixture
def real_world(service: Service) -> RealWorld:
    return RealWorld(service)


def commit(uow: UnitOfWork) -> list[NewEvent[object]]:
    """Log what the products of this unit of work recorded, and make it true."""
    new = list(uow.collect_new_events())
    for one in new:
        uow.event_log.append(Recorded(one.stream, one.version, one.event, Metadata.first("test")), effects=[])
    uow.commit()
    return new


def ask(world: World, *asked: Command) -> list[Any]:
    """What is answered to each, one transaction after another."""
    return [world.bus.handle(command) for command in asked]


def ask_together(world: World, *asked: Command) -> list[Outcome]:
    """How each ends, all in one transaction."""
    return world.bus.handle_together([Request(command) for command in asked])


def happened(world: World, sku: str) -> list[object]:
    return [recorded.event for recorded in world.log(sku)]


# --- the log -----------------------------------------------------------------


def test_an_event_is_known_by_its_id(world: World) -> None:
    world.bus.handle(commands.CreateBatch("b1", "LAMP", 1))
    [recorded] = world.log("LAMP")
    another = replace(recorded, metadata=replace(recorded.metadata, id=str(uuid4())))

    with world.unit_of_work() as uow:
        assert uow.event_log.has(recorded)
        assert not uow.event_log.has(another)
        assert not uow.event_log.has(replace(recorded, version=2))


# --- transactions ------------------------------------------------------------


def test_what_is_committed_is_there_for_the_next_unit_of_work(world: World) -> None:
    with world.unit_of_work() as uow:
        receiving.add_batch(uow.products.get("LAMP"), "b1", 10, tomorrow)
        commit(uow)

    with world.unit_of_work() as uow:
        [batch] = uow.products.get("LAMP").batches.of("LAMP")
        assert (batch.reference, batch.purchased_quantity, batch.eta) == ("b1", 10, tomorrow)
        assert uow.products.get_by_batchref("b1").sku == "LAMP"


def test_what_is_not_committed_never_happened(world: World) -> None:
    with world.unit_of_work() as uow:
        receiving.add_batch(uow.products.get("LAMP"), "b1", 10)
        for new in uow.collect_new_events():
            uow.event_log.append(Recorded(new.stream, new.version, new.event, Metadata.first("test")), effects=[])

    with world.unit_of_work() as uow:
        assert uow.products.get("LAMP").batches.of("LAMP") == []
        with pytest.raises(UnknownBatch):
            uow.products.get_by_batchref("b1")
    assert world.log("LAMP") == []


class PowerCut(Exception):
    pass


def test_an_error_takes_everything_back(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10))

    def allocate_in_the_dark() -> None:
        with world.unit_of_work() as uow:
            allocating.allocate(uow.products.get("LAMP"), OrderLine("o1", "LAMP", 4))
            raise PowerCut

    with pytest.raises(PowerCut):
        allocate_in_the_dark()

    with world.unit_of_work() as uow:
        [batch] = uow.products.get("LAMP").batches.of("LAMP")
        assert batch.available_quantity == 10


def test_events_are_collected_once_each_in_their_order_with_their_versions(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10))

    with world.unit_of_work() as uow:
        allocating.allocate(uow.products.get("LAMP"), OrderLine("o1", "LAMP", 4))
        allocating.allocate(uow.products.get("LAMP"), OrderLine("o2", "LAMP", 9))
        first = list(uow.collect_new_events())
        receiving.add_batch(uow.products.get("LAMP"), "b2", 5)
        second = list(uow.collect_new_events())
        third = list(uow.collect_new_events())

    assert first == [
        NewEvent("LAMP", 2, events.Allocated("o1", "LAMP", 4, "b1", "LAMP")),
        NewEvent("LAMP", 3, events.OutOfStock("o2", "LAMP", 9, "LAMP")),
    ]
    assert second == [NewEvent("LAMP", 4, events.BatchCreated("b2", "LAMP", 5, None))]
    assert third == []


def test_a_product_is_loaded_once_in_a_unit_of_work(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10))

    with world.unit_of_work() as uow:
        assert uow.products.get("LAMP") is uow.products.get_by_batchref("b1")


def test_the_version_is_the_number_of_events(world: World) -> None:
    ask(
        world,
        commands.CreateBatch("b1", "LAMP", 10),
        commands.CreateBatch("b2", "LAMP", 10),
        commands.Allocate("o1", "LAMP", 6),
        commands.Allocate("o2", "LAMP", 99),
        commands.ChangeBatchQuantity("b1", 3),  # changed, broken, placed again
    )

    assert [recorded.version for recorded in world.log("LAMP")] == [1, 2, 3, 4, 5, 6, 7]
    with world.unit_of_work() as uow:
        assert uow.products.get("LAMP").version_number == 7


def test_what_changes_nothing_leaves_no_trace(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10), commands.Allocate("o1", "LAMP", 6))
    before = world.log("LAMP")

    answers = ask(
        world,
        commands.CreateBatch("b1", "LAMP", 10),
        commands.Allocate("o1", "LAMP", 6),
        commands.ChangeBatchQuantity("b1", 10),
    )

    assert answers == [None, "b1", {}]
    assert world.log("LAMP") == before


# --- two writers -------------------------------------------------------------


Work = Callable[[UnitOfWork], object]


def overlap(world: World, first: Work, second: Work) -> None:
    """Both do their work before either is committed; the first is committed first."""
    with world.unit_of_work() as later:
        second(later)
        with world.unit_of_work() as earlier:
            first(earlier)
            commit(earlier)
        commit(later)


def add_batch(ref: str, sku: str, qty: int) -> Work:
    return lambda uow: receiving.add_batch(uow.products.get(sku), ref, qty)


def allocate(orderid: str, sku: str, qty: int, lineid: str = "") -> Work:
    return lambda uow: allocating.allocate(uow.products.get(sku), OrderLine(orderid, sku, qty, lineid))


def change_batch_quantity(ref: str, qty: int) -> Work:
    return lambda uow: receiving.change_batch_quantity(uow.products.get_by_batchref(ref), ref, qty)


def test_of_two_writers_of_one_product_the_second_is_told_of_a_conflict(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10))

    with pytest.raises(ConcurrencyConflict):
        overlap(world, allocate("o1", "LAMP", 10), allocate("o2", "LAMP", 10))

    assert happened(world, "LAMP")[1:] == [events.Allocated("o1", "LAMP", 10, "b1", "LAMP")]


@pytest.mark.parametrize(
    "command",
    [
        commands.Allocate("o2", "LAMP", 1),
        commands.CreateBatch("b2", "LAMP", 1),
        commands.ChangeBatchQuantity("b1", 9),
    ],
)
def test_who_locks_a_product_wins_against_who_does_not(service: Service, command: commands.Command) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    other = RacingWriter(service, commands.Allocate("o1", "LAMP", 1))

    with service.bus.unit_of_work() as uow:
        uow.lock([command], wait=True)
        uow.prefetch([command], [])
        other.start()
        other.until_it_waits()
        handler: Any = service.bus.routes.handler(type(command))
        handler(command, uow)
        keep_all(uow)
        uow.commit()

    assert isinstance(other.outcome(), ConcurrencyConflict), "not a deadlock, and not a second winner"


def test_who_waits_for_its_turn_sees_what_was_written_meanwhile(service: Service, at_once: AtOnce) -> None:
    """Where a lock on the row would let it lose."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    line, later = commands.Allocate("o1", "LAMP", 6), commands.Allocate("o2", "LAMP", 6)
    begun = Event()

    def first() -> str | None:
        with service.bus.unit_of_work() as uow:
            uow.lock([line], wait=True)
            uow.prefetch([line], [])
            begun.set()
            assert wait_for(partial(somebody_waits, service, "relation"), within=20), "nobody queues up"
            return kept(uow, line)

    def second() -> str | None:
        assert begun.wait(20)
        with service.bus.unit_of_work() as uow:
            uow.lock([later], wait=True)
            return kept(uow, later)

    assert at_once(first, second) == ["b1", None]


def kept(uow: UnitOfWork, line: commands.Allocate) -> str | None:
    batchref = allocating.allocate(uow.products.get(line.sku), OrderLine(line.orderid, line.sku, line.qty))
    keep_all(uow)
    uow.commit()
    return batchref


def somebody_waits(service: Service, for_a: str) -> bool:
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = :kind AND NOT granted")
    with service.engine.connect() as connection:
        return bool(connection.scalar(waiting, {"kind": for_a}))


class RacingWriter(Thread):
    """Handles a command once, in a thread, without having reserved anything."""

    def __init__(self, service: Service, command: commands.Command) -> None:
        super().__init__()
        self._service = service
        self._command = command
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            with self._service.bus.unit_of_work() as uow:
                handler: Any = self._service.bus.routes.handler(type(self._command))
                handler(self._command, uow)
                keep_all(uow)
                uow.commit()
        except ConcurrencyConflict as error:
            self._error = error

    def until_it_waits(self) -> None:
        def waits() -> bool:
            with self._service.engine.connect() as connection:
                waiting = (
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
                return bool(connection.execute(text(waiting)).scalar())

        assert wait_for(waits, within=20), "it does not meet who has reserved"

    def outcome(self) -> Exception | None:
        self.join(20)
        assert not self.is_alive()
        return self._error


def keep_all(uow: UnitOfWork) -> None:
    for new in uow.collect_new_events():
        uow.event_log.append(Recorded(new.stream, new.version, new.event, Metadata.first("test")), [])


def test_of_two_who_purchase_a_new_product_the_second_is_told_of_a_conflict(world: World) -> None:
    with pytest.raises(ConcurrencyConflict):
        overlap(world, add_batch("b1", "LAMP", 10), add_batch("b2", "LAMP", 20))

    assert happened(world, "LAMP") == [events.BatchCreated("b1", "LAMP", 10, None)]


def test_an_allocation_and_a_quantity_change_never_both_win(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10))

    with pytest.raises(ConcurrencyConflict):
        overlap(world, change_batch_quantity("b1", 5), allocate("o1", "LAMP", 10))

    assert happened(world, "LAMP")[1:] == [events.BatchQuantityChanged("b1", "LAMP", 5)]


def test_one_who_finds_nothing_and_one_who_brings_stock_never_both_win(world: World) -> None:
    """Otherwise a line would be told out of stock though there is some."""
    ask(world, commands.CreateBatch("b1", "LAMP", 0))

    with pytest.raises(ConcurrencyConflict):
        overlap(world, add_batch("b2", "LAMP", 10), allocate("o1", "LAMP", 10))

    assert happened(world, "LAMP")[1:] == [events.BatchCreated("b2", "LAMP", 10, None)]


def test_the_loser_runs_again_on_fresh_state(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10))
    with pytest.raises(ConcurrencyConflict):
        overlap(world, allocate("o1", "LAMP", 6), allocate("o2", "LAMP", 6))

    with world.unit_of_work() as again:
        assert allocating.allocate(again.products.get("LAMP"), OrderLine("o2", "LAMP", 6)) is None, "the stock has gone"
        commit(again)

    assert happened(world, "LAMP")[1:] == [
        events.Allocated("o1", "LAMP", 6, "b1", "LAMP"),
        events.OutOfStock("o2", "LAMP", 6, "LAMP"),
    ]


def test_what_is_discarded_leaves_everything_as_it_was_and_the_rest_goes_on(world: World) -> None:
    """As a command does it that is refused at its second product, between two others in one transaction."""
    ask(world, commands.CreateBatch("b1", "LAMP", 10), commands.CreateBatch("b2", "TABLE", 10))
    ask(world, commands.Allocate("o0", "LAMP", 2))

    with world.unit_of_work() as uow:
        allocating.allocate(uow.products.get("LAMP"), OrderLine("o1", "LAMP", 3))
        first = list(uow.collect_new_events())
        receiving.change_batch_quantity(uow.products.get_by_batchref("b1"), "b1", 0)
        receiving.add_batch(uow.products.get("LAMP"), "b3", 5)
        allocating.allocate(uow.products.get("TABLE"), OrderLine("o2", "TABLE", 4))
        uow.discard_new_events()
        assert list(uow.collect_new_events()) == []
        assert allocating.allocate(uow.products.get("LAMP"), OrderLine("o3", "LAMP", 5)) == "b1"
        assert allocating.allocate(uow.products.get("LAMP"), OrderLine("o1", "LAMP", 3)) == "b1"
        for new in (*first, *uow.collect_new_events()):
            uow.event_log.append(Recorded(new.stream, new.version, new.event, Metadata.first("test")), effects=[])
        uow.commit()

    assert happened(world, "LAMP")[2:] == [
        events.Allocated("o1", "LAMP", 3, "b1", "LAMP"),
        events.Allocated("o3", "LAMP", 5, "b1", "LAMP"),
    ]
    with world.unit_of_work() as again:
        assert again.products.get_by_batchref("b1").batches["b1"].revision[:2] == (10, 10)
        with pytest.raises(UnknownBatch):
            again.products.get_by_batchref("b3")
        assert again.products.get("TABLE").version_number == 1


def test_writers_of_two_products_both_win(world: World) -> None:
    overlap(world, add_batch("b1", "TABLE", 10), add_batch("b2", "LAMP", 20))

    assert happened(world, "TABLE") == [events.BatchCreated("b1", "TABLE", 10, None)]
    assert happened(world, "LAMP") == [events.BatchCreated("b2", "LAMP", 20, None)]


def test_a_batch_reference_is_taken_by_one_of_two_skus(world: World) -> None:
    with pytest.raises(ConcurrencyConflict):
        overlap(world, add_batch("b1", "LAMP", 10), add_batch("b1", "TABLE", 10))

    assert happened(world, "TABLE") == []
    with world.unit_of_work() as again, pytest.raises(BatchConflict, match="10 of LAMP"):
        receiving.add_batch(again.products.get("TABLE"), "b1", 10)


def test_an_order_line_is_taken_by_one_of_two_skus(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10), commands.CreateBatch("b2", "TABLE", 10))

    with pytest.raises(ConcurrencyConflict):
        overlap(world, allocate("o1", "LAMP", 1, "line-1"), allocate("o1", "TABLE", 1, "line-1"))

    assert len(happened(world, "TABLE")) == 1
    with world.unit_of_work() as again, pytest.raises(LineConflict, match="1 of LAMP"):
        allocating.allocate(again.products.get("TABLE"), OrderLine("o1", "TABLE", 1, "line-1"))


def test_a_unit_of_work_sees_one_moment(real_world: World) -> None:
    world = real_world
    ask(world, commands.CreateBatch("b1", "LAMP", 10), commands.CreateBatch("b2", "TABLE", 10))

    with world.unit_of_work() as uow:
        uow.products.get("LAMP")
        ask(world, commands.Allocate("o1", "TABLE", 4), commands.ChangeBatchQuantity("b2", 7))
        [batch] = uow.products.get("TABLE").batches.of("TABLE")
        assert (batch.purchased_quantity, batch.available_quantity) == (10, 10)
        assert uow.products.get("TABLE").version_number == 1


# --- what follows from a command ---------------------------------------------


def test_an_allocation_is_in_the_log_the_view_and_the_outbox_at_once(world: World) -> None:
    answers = ask(world, commands.CreateBatch("b1", "LAMP", 10), commands.Allocate("o1", "LAMP", 4, "line-1"))

    assert answers == [None, "b1"]
    assert happened(world, "LAMP")[1:] == [events.Allocated("o1", "LAMP", 4, "b1", "line-1")]
    assert world.allocations() == [("o1", "line-1", "LAMP", 4, "b1")]
    assert world.waiting_effects() == {("publish_event", "LAMP", 1), ("publish_event", "LAMP", 2)}


def test_out_of_stock_is_in_the_log_and_the_outbox(world: World) -> None:
    answers = ask(world, commands.CreateBatch("b1", "LAMP", 3), commands.Allocate("o1", "LAMP", 4))

    assert answers == [None, None]
    assert happened(world, "LAMP")[1:] == [events.OutOfStock("o1", "LAMP", 4, "LAMP")]
    assert world.allocations() == []
    assert world.waiting_effects() == {
        ("publish_event", "LAMP", 1),
        ("publish_event", "LAMP", 2),
        ("send_out_of_stock_notification", "LAMP", 2),
    }


def test_a_reallocation_breaks_the_newest_promises_and_places_them_again_oldest_first(world: World) -> None:
    ask(
        world,
        commands.CreateBatch("b1", "LAMP", 30),
        commands.CreateBatch("b2", "LAMP", 10, tomorrow),
        *(commands.Allocate(order, "LAMP", 10) for order in ("o1", "o2", "o3")),
    )

    ask(world, commands.ChangeBatchQuantity("b1", 12))

    assert happened(world, "LAMP")[5:] == [
        events.BatchQuantityChanged("b1", "LAMP", 12),
        events.Deallocated("o2", "LAMP", 10, "b1", "LAMP"),
        events.Deallocated("o3", "LAMP", 10, "b1", "LAMP"),
        events.Allocated("o2", "LAMP", 10, "b2", "LAMP"),
        events.OutOfStock("o3", "LAMP", 10, "LAMP"),
    ]
    assert world.allocations() == [("o1", "LAMP", "LAMP", 10, "b1"), ("o2", "LAMP", "LAMP", 10, "b2")]
    assert len({recorded.metadata.correlation_id for recorded in world.log("LAMP")[5:]}) == 1


def test_a_reallocation_is_one_transaction(real_world: World, sql: Callable[[str], list[tuple[Any, ...]]]) -> None:
    ask(
        real_world,
        commands.CreateBatch("b1", "LAMP", 30),
        commands.CreateBatch("b2", "LAMP", 10, tomorrow),
        commands.Allocate("o1", "LAMP", 10),
        commands.ChangeBatchQuantity("b1", 5),
    )

    transactions = sql("SELECT transaction_id FROM event_log ORDER BY position")
    assert len(transactions) == 6
    assert len(set(transactions[3:])) == 1, "changed, broken and placed again together"


# --- commands that share a transaction ---------------------------------------


def test_commands_together_see_each_others_batches_and_lines(world: World) -> None:
    outcomes = ask_together(
        world,
        commands.CreateBatch("b1", "LAMP", 10),
        commands.Allocate("o1", "LAMP", 6),
        commands.Allocate("o1", "LAMP", 6),
        commands.Allocate("o2", "LAMP", 6),
        commands.ChangeBatchQuantity("b1", 12),
        commands.Allocate("o2", "LAMP", 6),
    )

    assert [outcome.result for outcome in outcomes] == [None, "b1", "b1", None, {"LAMP": 4}, "b1"]
    assert [row[0] for row in world.allocations()] == ["o1", "o2"]


def test_commands_together_see_each_others_batches_and_lines_across_skus(world: World) -> None:
    outcomes = ask_together(
        world,
        commands.CreateBatch("b1", "LAMP", 10),
        commands.CreateBatch("b1", "TABLE", 10),
        commands.CreateBatch("b2", "TABLE", 10),
        commands.Allocate("o1", "LAMP", 6, "line-1"),
        commands.Allocate("o1", "TABLE", 6, "line-1"),
        commands.Allocate("o1", "CHAIR", 6, "line-1"),
        commands.ChangeBatchQuantity("b9", 1),
    )

    assert [type(outcome.refusal) for outcome in outcomes] == [
        type(None),
        BatchConflict,
        type(None),
        type(None),
        LineConflict,
        InvalidSku,
        UnknownBatch,
    ]
    assert world.allocations() == [("o1", "line-1", "LAMP", 6, "b1")]


def test_a_line_that_is_broken_and_placed_again_in_the_same_batch_is_the_last_in_order(world: World) -> None:
    ask(
        world,
        commands.CreateBatch("b1", "LAMP", 3),
        commands.Allocate("o1", "LAMP", 2, "first"),
        commands.Allocate("o1", "LAMP", 1, "second"),
        commands.CreateBatch("b2", "LAMP", 2),
    )

    ask(world, commands.ChangeBatchQuantity("b1", 1))

    told = [(one.lineid, one.batchref) for one in happened(world, "LAMP")[-2:] if isinstance(one, events.Allocated)]
    assert told == [("first", "b2"), ("second", "b1")]
    assert [row[1::3] for row in world.allocations()] == told


def test_a_line_broken_and_placed_under_another_sku_in_one_transaction_is_found_there(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10), commands.Allocate("o1", "LAMP", 6, "line-1"))

    ask_together(
        world,
        commands.ChangeBatchQuantity("b1", 0),
        commands.CreateBatch("b2", "TABLE", 10),
        commands.Allocate("o1", "TABLE", 6, "line-1"),
    )

    assert world.allocations() == [("o1", "line-1", "TABLE", 6, "b2")]
    assert ask(world, commands.Allocate("o1", "TABLE", 6, "line-1")) == ["b2"], "it is known, and promised only once"


def test_a_line_that_another_sku_has_taken_does_not_come_back_in_the_same_transaction(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 10), commands.Allocate("o1", "LAMP", 6, "line-1"))

    *_, last = ask_together(
        world,
        commands.ChangeBatchQuantity("b1", 0),
        commands.CreateBatch("b2", "TABLE", 10),
        commands.Allocate("o1", "TABLE", 6, "line-1"),
        commands.CreateBatch("b3", "LAMP", 10),
        commands.Allocate("o1", "LAMP", 6, "line-1"),
    )

    assert isinstance(last.refusal, LineConflict)
    assert world.allocations() == [("o1", "line-1", "TABLE", 6, "b2")]


def test_a_message_id_that_comes_twice_in_one_group_takes_effect_once(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 0))
    request = Request(commands.Allocate("o1", "LAMP", 6), message_id="m1")

    outcomes = world.bus.handle_together([request, request])

    assert [outcome.result for outcome in outcomes] == [None, None]
    assert happened(world, "LAMP")[1:] == [events.OutOfStock("o1", "LAMP", 6, "LAMP")]


def test_a_message_id_used_again_with_another_body_stops_its_group_before_anything_changed(world: World) -> None:
    ask(world, commands.CreateBatch("b1", "LAMP", 0))
    world.bus.handle(commands.Allocate("o1", "LAMP", 6), message_id="m1")

    with pytest.raises(MessageIdReused, match="m1"):
        world.bus.handle_together(
            [Request(commands.Allocate("o2", "LAMP", 7)), Request(commands.Allocate("o3", "LAMP", 8), message_id="m1")]
        )

    assert len(world.log("LAMP")) == 2


# --- any commands ------------------------------------------------------------

references, skus, orders, lines = (st.sampled_from(names) for names in (["b1", "b2", "b3"], "XY", ["o1", "o2"], "lmn"))
quantities = st.integers(0, 12)
any_command = st.one_of(
    st.builds(commands.CreateBatch, references, skus, quantities, st.sampled_from([None, tomorrow])),
    st.builds(commands.Allocate, orders, skus, st.integers(1, 9), lines),
    st.builds(commands.Allocate, orders, skus, st.integers(1, 9), lines),
    st.builds(commands.ChangeBatchQuantity, references, quantities),
)
groups_of_commands = st.lists(st.lists(any_command, min_size=1, max_size=4), max_size=8)
number_of_example = count()


def renamed(command: Command, suffix: str) -> Command:
    """The same among other names, so that examples do not meet in one database."""
    names = {name: getattr(command, name) + suffix for name in ("ref", "orderid", "sku") if hasattr(command, name)}
    return replace(command, **names)


@given(asked=groups_of_commands)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fake_and_real_never_differ_and_the_books_balance(
    service: Service, differences: Callable[[], list[str]], asked: list[list[Command]]
) -> None:
    fake, real, suffix = FakeWorld(), RealWorld(service), f"-{next(number_of_example)}"
    real.bus = replace(service.bus, retry=Retry(conflict_deadline=0.1))  # there is nobody to wait for

    for group in asked:
        here = [renamed(command, suffix) for command in group]
        assert outcomes_of(fake, here) == outcomes_of(real, here)

    for sku in ("X" + suffix, "Y" + suffix):
        assert numbered(fake.log(sku)) == numbered(real.log(sku))
    assert fake.allocations() == [row for row in real.allocations() if row[0].endswith(suffix)]
    assert fake.waiting_effects() == {row for row in real.waiting_effects() if row[1].endswith(suffix)}
    assert differences() == []


def numbered(log: list[Recorded[object]]) -> list[tuple[int, object]]:
    return [(recorded.version, recorded.event) for recorded in log]


def outcomes_of(world: World, asked: list[Command]) -> list[tuple[object, type, str]]:
    return [(one.result, type(one.refusal), str(one.refusal)) for one in ask_together(world, *asked)]
