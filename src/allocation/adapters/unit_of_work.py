"""The service's unit of work on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, tzinfo
from functools import partial

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
    def __init__(self, round_trips: RoundTrips, time_zone: tzinfo = UTC, most_events: int | None = None) -> None:
        super().__init__(round_trips, CODEC, REFUSALS)
        self.products = SqlAlchemyProducts(self.ask, time_zone, most_events)
        self.allocations_view = SqlAlchemyAllocationsView(self.products.stored.quantities)
        self.add_writer(self.products)
        self.add_writer(self.allocations_view)

    def prefetch(self, commands: Sequence[object], message_ids: Sequence[str]) -> None:
        lookups = Lookups.of_all([messages.lookups(command) for command in commands])
        answers = self.ask(*self.products.stored.queries(lookups), *self.inbox.queries(message_ids))
        self.products.stored.take(answers)
        self.inbox.take(answers)

    @property
    def locked_elsewhere(self) -> Collection[str]:
        return self.products.stored.locked_elsewhere

    @property
    def streams(self) -> set[str]:
        return self.products.skus

    def lock(self, commands: Sequence[object], streams: Collection[str] = (), *, wait: bool) -> None:
        named = (messages.lookups(command).changed for command in commands)
        changed = Lookups.of_all([*named, Lookups(skus=list(streams))])
        self.lock_first(self.products.locks(changed, wait=wait), wait_for_turn=changed.skus if wait else ())

    def collect_new_events(self) -> list[NewEvent[Event]]:
        return self.products.collect_new_events()

    def discard_new_events(self) -> None:
        self.products.discard_new_events()


def unit_of_work(
    engine: Engine, time_zone: tzinfo = UTC, most_events: int | None = None
) -> Callable[[], AbstractContextManager[SqlAlchemyUnitOfWork]]:
    """Units of work at REPEATABLE READ, each with a connection of its own. A day begins as it does in `time_zone`. What
    leads to more than `most_events` at once raises IsLong."""
    return transactions(engine, partial(SqlAlchemyUnitOfWork, time_zone=time_zone, most_events=most_events))
