"""The yardstick writes what the service writes, and what is filled in by SQL is what the service would have written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from benchmarks import bare, pgbench
from benchmarks.fill import allocate_lines, lines_that_wait
from benchmarks.world import PLENTY, SKUS, Database
from sqlalchemy import make_url
from tests.integration.conftest import Sql

from allocation.bootstrap import Service
from allocation.domain.commands import Allocate, CreateBatch
from messaging.envelope import Metadata, Request

Rows = dict[str, list[dict[str, Any]]]

TABLES = (
    *("products", "batches", "batch_references", "order_lines", "allocations", "allocations_view"),
    *("event_log", "outbox", "deliveries", "inbox"),
)
OWN = {"id", "correlation_id", "causation_id", "time", "transaction_id"}
"""What differs from run to run; of that only the kind is compared."""

LINES = [("in-stock", 6), ("in-stock", 6), ("by-ship", 5), ("out-of-stock", 50), ("in-stock-too", 4)]


@pytest.fixture
def libpq_url(database_url: str) -> str:
    return make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def stock(service: Service) -> None:
    batches = [CreateBatch("ship", "CHAIR", 20, date(2031, 1, 1)), CreateBatch("warehouse", "CHAIR", 10)]
    service.bus.handle_together([Request(batch) for batch in batches])


def everything(sql: Sql) -> Rows:
    found: Rows = {}
    for table in TABLES:
        rows: list[dict[str, Any]] = [row for (row,) in sql(f"SELECT to_jsonb(t) FROM {table} AS t")]
        for row in rows:
            row.update({name: type(row[name]) for name in OWN & row.keys()})
        found[table] = sorted(rows, key=str)
    return found


def test_the_bare_loop_writes_the_same_rows_and_gives_the_same_answers(
    service: Service, libpq_url: str, sql: Sql, differences: Callable[[], list[str]]
) -> None:
    stock(service)
    ours = [service.bus.handle(Allocate(order, "CHAIR", qty), Metadata.first("http")) for order, qty in LINES]
    written_by_the_service = everything(sql)
    sql(f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY")

    stock(service)
    with bare.connect(libpq_url) as connection:
        theirs = [bare.allocate(connection, order, "CHAIR", qty) for order, qty in LINES]
        with pytest.raises(bare.UnknownSku):
            bare.allocate(connection, "order", "NEVER-PURCHASED", 1)

    assert ours == theirs == ["warehouse", "warehouse", "ship", None, "warehouse"]
    assert everything(sql) == written_by_the_service
    assert not differences()


def test_a_bare_loop_that_loses_tries_again(
    service: Service, libpq_url: str, differences: Callable[[], list[str]]
) -> None:
    stock(service)
    with bare.connect(libpq_url) as first, bare.connect(libpq_url) as second:
        second.execute("SELECT 1 FROM products")  # its transaction sees what is there now
        assert bare.allocate(first, "order-1", "CHAIR", 6) == "warehouse"
        assert bare.allocate(second, "order-2", "CHAIR", 6) == "ship"

    assert not differences()


def test_what_is_filled_in_balances(
    service: Service, libpq_url: str, sql: Sql, differences: Callable[[], list[str]]
) -> None:
    service.bus.handle_together([Request(CreateBatch(f"batch-{sku}", sku, PLENTY)) for sku in ("A", "B")])
    service.bus.handle(CreateBatch("none", "C", 0))
    with psycopg.connect(libpq_url, autocommit=True) as connection:
        allocate_lines(connection, ["A", "B"], 3)
        lines_that_wait(connection, "C", 3, date(2031, 1, 1))
        lines_that_wait(connection, "C", 20)
    service.bus.handle(Allocate("afterwards", "A", 1))

    assert sql("SELECT sku, version_number FROM products ORDER BY sku") == [("A", 5), ("B", 4), ("C", 24)]
    assert not differences()
    service.bus.handle(CreateBatch("all", "C", 1_000, date(2030, 1, 1)))
    assert sql("SELECT count(*) FROM backorders") == [(0,)]
    assert not differences()


if pgbench.program():  # not every PostgreSQL brings it

    def test_pgbench_runs_statements_that_balance(
        service: Service, libpq_url: str, tmp_path: Path, differences: Callable[[], list[str]]
    ) -> None:
        service.bus.handle_together([Request(CreateBatch(f"batch-{sku}", sku, PLENTY)) for sku in SKUS])

        rate = pgbench.run(Database(libpq_url, "redis://", tmp_path), clients=4, seconds=1)

        assert rate > 0
        assert not differences()
