"""The service's unit of work on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Engine

from allocation.adapters.read_models import SqlAlchemyAllocationsView
from allocation.adapters.repository import SqlAlchemyProducts
from allocation.adapters.wire_names import CODEC, REFUSALS
from allocation.domain.events import Event
from allocation.service_layer import messages
from allocation.service_layer.ports import Lookups
from messaging.envelope import NewEvent
from messaging.sql.round_trip import RoundTrips
from messaging.sql.unit_of_work import SqlTransaction, transactions


class SqlAlchemyUnitOfWork(SqlTransaction):
    def __init__(self, round_trips: RoundTrips) -> None:
        super().__init__(round_trips, CODEC, REFUSALS)
        self.products = SqlAlchemyProducts(self.ask)
        self.allocations_view = SqlAlchemyAllocationsView()
        self.add_writer(self.products)
        self.add_writer(self.allocations_view)

    def prefetch(self, commands: Sequence[object], message_ids: Sequence[str]) -> None:
        lookups = Lookups.of_all([messages.lookups(command) for command in commands])
        answers = self.ask(*self.products.queries(lookups), *self.inbox.queries(message_ids))
        self.products.take(answers)
        self.locked_elsewhere = self.products.locked_elsewhere
        self.inbox.take(answers)

    def lock(self, commands: Sequence[object], *, wait: bool) -> None:
        changed = Lookups.of_all([messages.lookups(command).changed for command in commands])
        self.lock_first(self.products.locks(changed, wait=wait), wait_for_turn=changed.skus if wait else ())

    def collect_new_events(self) -> list[NewEvent[Event]]:
        return self.products.collect_new_events()

    def discard_new_events(self) -> None:
        self.products.discard_new_events()


def unit_of_work(engine: Engine) -> Callable[[], AbstractContextManager[SqlAlchemyUnitOfWork]]:
    """Units of work at REPEATABLE READ, each with a connection of its own."""
    return transactions(engine, SqlAlchemyUnitOfWork)
