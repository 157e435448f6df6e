"""What is updated all the time stays where it is: on its page, without a new index entry, however often it changes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from allocation.bootstrap import Service
from allocation.domain.commands import Allocate, CreateBatch
from embedded.waiting import wait_for
from messaging.envelope import Request

pytestmark = pytest.mark.own_database

Sql = Callable[..., list[tuple[Any, ...]]]

SKUS = 100
ROUNDS = 30
PAGE = 8192
PATIENCE = 20.0

UPDATES = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = :table"
SIZES = "SELECT relname::text, pg_relation_size(oid), pg_indexes_size(oid) FROM pg_class WHERE relname = ANY(:tables)"

_NUMBERS = count()


def sell(service: Service) -> None:
    """One line of each SKU, in one transaction, and its events."""
    lines = [Allocate(f"order-{next(_NUMBERS)}", f"SKU-{number}", 1) for number in range(SKUS)]
    for outcome in service.bus.handle_together([Request(line) for line in lines]):
        outcome.unwrap()
    while service.relay.deliver("publish_event"):
        pass


def updates(sql: Sql, table: str, at_least: int) -> tuple[int, int]:
    """All updates of a table, and those that stayed on their page; a session tells of its own within a second or so."""
    wait_for(lambda: sql(UPDATES, table=table)[0][0] >= at_least, within=PATIENCE)
    [(total, stayed)] = sql(UPDATES, table=table)
    assert total >= at_least, f"{total} updates of {table} were counted"
    return total, stayed


@pytest.fixture
def stocked(service: Service) -> Service:
    commands = [CreateBatch(f"batch-{number}", f"SKU-{number}", 1_000_000) for number in range(SKUS)]
    service.bus.handle_together([Request(command) for command in commands])
    sell(service)
    return service


def test_updates_stay_on_their_page(stocked: Service, sql: Sql) -> None:
    tables = ["products", "batches", "deliveries"]
    before = {name: (heap, indexes) for name, heap, indexes in sql(SIZES, tables=tables)}

    for _ in range(ROUNDS):
        sell(stocked)

    stocked.close()  # a session that ends tells all
    for table in tables:
        total, stayed = updates(sql, table, at_least=ROUNDS * SKUS)
        assert stayed >= 0.9 * total, f"{stayed} of {total} updates of {table} stayed on their page"
    for name, heap, indexes in sql(SIZES, tables=tables):
        assert heap <= before[name][0] + 2 * PAGE, f"{name} grew from {before[name][0]} to {heap}"
        assert indexes <= before[name][1] + PAGE, f"the indexes of {name} grew from {before[name][1]} to {indexes}"


def test_a_counter_in_the_predicate_of_an_index_would_move_the_row_at_each_update(stocked: Service, sql: Sql) -> None:
    """Why batches have the column `is_open`."""
    sql("CREATE INDEX by_the_counters ON batches (sku) WHERE allocated_quantity < purchased_quantity")

    for _ in range(3):
        sell(stocked)

    stocked.close()
    total, stayed = updates(sql, "batches", at_least=4 * SKUS)
    assert stayed <= SKUS, f"{stayed} of {total} updates stayed on their page, though an index reads what they change"
