"""On tables in hash partitions the same holds, and one product needs one partition of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, text
from tests.integration.partitions import partition

from allocation.bootstrap import Service, bootstrap
from allocation.check import open_snapshot
from allocation.config import Settings
from allocation.database import migrations
from allocation.domain import commands
from messaging.sql.connections import connection

NUMBER = 8

_SCANS = text("""
    SELECT inhparent::regclass::text, relname, idx_scan + seq_scan
    FROM pg_stat_user_tables JOIN pg_inherits ON inhrelid = relid
""")


@pytest.fixture
def service(settings: Settings, unmigrated_url: str) -> Iterator[Service]:
    """With one connection, to a database whose tables are cut into partitions."""
    migrations.upgrade(unmigrated_url)
    engine = create_engine(unmigrated_url)
    with engine.begin() as transaction:
        partition(transaction, NUMBER)
    engine.dispose()
    service = bootstrap(replace(settings, database_url=unmigrated_url), connections=1)
    yield service
    service.close()


@pytest.fixture
def scanned(service: Service) -> Callable[[], dict[tuple[str, str], int]]:
    """How often each partition of each table was searched so far."""

    def scanned() -> dict[tuple[str, str], int]:
        with connection(service.engine) as the_only_one:
            the_only_one.execute(text("SELECT pg_stat_force_next_flush()"))
            return {(table, part): number for table, part, number in the_only_one.execute(_SCANS)}

    return scanned


def test_what_is_asked_and_written_for_an_allocation_is_in_one_partition_of_each_table(
    service: Service, scanned: Callable[[], dict[tuple[str, str], int]]
) -> None:
    for number in range(20):
        service.bus.handle(commands.CreateBatch(f"b{number}", f"LAMP-{number}", 10))
    before = scanned()

    service.bus.handle(commands.Allocate("o1", "LAMP-7", 1))

    searched = sorted(table for (table, part), times in scanned().items() if times > before[table, part])
    assert searched == ["batches", "order_lines", "products"], "each once"


def test_the_books_balance(service: Service) -> None:
    for number in range(20):
        service.bus.handle(commands.CreateBatch(f"b{number}", f"LAMP-{number}", 10))
        service.bus.handle(commands.CreateBatch(f"c{number}", f"LAMP-{number}", 10))
        for line in range(3):
            service.bus.handle(commands.Allocate(f"o{number}-{line}", f"LAMP-{number}", 3))
        service.bus.handle(commands.ChangeBatchQuantity(f"b{number}", 4))

    with open_snapshot(service.engine) as snapshot:
        assert list(snapshot.differences()) == []
