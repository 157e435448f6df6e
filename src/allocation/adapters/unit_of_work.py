"""The service's unit of work on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Engine

from allocation.adapters.read_models import SqlAlchemyAllocationsView
from allocation.adapters.repository import SqlAlchemyProducts
from allocation.adapters.wire_names import CODEC, REFUSALS
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.domain.model import OrderLine
from messaging.envelope import NewEvent
from messaging.sql.round_trip import RoundTrips
from messaging.sql.statements import Question
from messaging.sql.unit_of_work import SqlTransaction, transactions


class SqlAlchemyUnitOfWork(SqlTransaction):
    def __init__(self, round_trips: RoundTrips) -> None:
        super().__init__(round_trips, CODEC, REFUSALS)
        self.products = SqlAlchemyProducts(self.ask)
        self.allocations_view = SqlAlchemyAllocationsView()
        self.add_writer(self.products)
        self.add_writer(self.allocations_view)

    def questions(self, commands: Sequence[object]) -> Iterator[Question]:
        return self.products.questions(
            skus=[command.sku for command in commands if isinstance(command, CreateBatch | Allocate)],
            batchrefs=[command.ref for command in commands if isinstance(command, CreateBatch | ChangeBatchQuantity)],
            lines=[OrderLine.of(command).key for command in commands if isinstance(command, Allocate)],
        )

    def reserve(self, commands: Sequence[object]) -> None:
        skus = [command.sku for command in commands if isinstance(command, CreateBatch | Allocate)]
        batchrefs = [command.ref for command in commands if isinstance(command, ChangeBatchQuantity)]
        self.wait_for_turn(skus, self.products.lock(skus, batchrefs))

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        return self.products.collect_new_events()


def unit_of_work(engine: Engine) -> Callable[[], AbstractContextManager[SqlAlchemyUnitOfWork]]:
    """Units of work at REPEATABLE READ, each with a connection of its own."""
    return transactions(engine, SqlAlchemyUnitOfWork)
