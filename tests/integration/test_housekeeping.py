"""What should not grow does not, over a long run, and nobody has to do anything for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any
from unittest.mock import Mock

import pytest
import redis

from allocation.adapters.redis_channels import COMMANDS
from allocation.bootstrap import Service
from allocation.domain import commands
from embedded.waiting import wait_for
from messaging.envelope import Position, Request
from messaging.redis.group import ConsumerGroup
from messaging.sql import inbox
from messaging.sql.housekeeping import Housekeeping

Sql = Callable[..., list[tuple[Any, ...]]]

SIZES = """
    SELECT relname::text, pg_relation_size(oid) + pg_indexes_size(oid) FROM pg_class
    WHERE relname IN ('outbox', 'inbox', 'deliveries', 'products', 'batches')
"""
SKUS = 5
DAYS = 6
PATIENCE = 20.0


@pytest.mark.own_database
def test_tables_that_should_not_grow_do_not(service: Service, sql: Sql, differences: Callable[[], list[str]]) -> None:
    housekeeping = replace(service.housekeeping, keep=timedelta(0), batch=100)
    for sku in range(SKUS):
        service.bus.handle(commands.CreateBatch(f"b{sku}", f"SKU-{sku}", 1_000_000))
    sizes: list[dict[str, int]] = []

    for turn in range(DAYS):
        a_day_of_work(service, turn)
        for effect in service.relay.routes.all_effect_names():
            while service.relay.deliver(effect):
                pass
        while housekeeping.forget_old_messages():
            pass
        for table in ("outbox", "inbox", "deliveries", "products", "batches"):
            sql(f"VACUUM {table}")  # as autovacuum does it now and then
        sizes.append(dict(sql(SIZES)))

    assert sql("SELECT count(*) FROM outbox") == [(0,)]
    assert sql("SELECT count(*) FROM inbox") == [(0,)]
    assert sql("SELECT count(*) FROM deliveries") == [(2 * SKUS,)]
    assert sql("SELECT count(*) FROM event_log") == [(SKUS + DAYS * 100,)], "the log stays"
    assert all(sizes[-1][table] <= sizes[1][table] for table in sizes[-1]), sizes
    assert differences() == [], "what was delivered stays provable"


def a_day_of_work(service: Service, day: int) -> None:
    """A hundred orders; every fourth finds nothing."""
    for first in range(0, 100, 50):
        orders = [f"order-{day}-{number}" for number in range(first, first + 50)]
        service.bus.handle_together(
            [
                Request(
                    commands.Allocate(order, f"SKU-{number % SKUS}", 1_000_000 if number % 4 == 0 else 1),
                    message_id=order,
                )
                for number, order in enumerate(orders)
            ]
        )


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-400)])
@pytest.mark.parametrize("whose", ["the database", "we", "whoever has recorded the last event"])
def test_when_one_clock_jumps_nothing_young_is_forgotten(
    service: Service, sql: Sql, whose: str, jump: timedelta
) -> None:
    for message_id in ("young", "old"):
        service.bus.handle(commands.CreateBatch("b1", "LAMP", 10), message_id=message_id)
    true = timedelta() if whose != "the database" else -jump  # to the database, whose clock is that of this test
    ours = true + (jump if whose == "we" else timedelta())
    recorded = true + (timedelta() if whose in {"the database", "we"} else jump)
    sql("UPDATE inbox SET received_at = now() + :true", true=true)
    sql("UPDATE inbox SET received_at = received_at - interval '2 days' WHERE message_id = 'old'")
    sql("UPDATE event_log SET time = now() + :recorded", recorded=recorded)
    housekeeping = replace(service.housekeeping, clock=lambda: time.time() + ours.total_seconds())

    assert housekeeping.forget_old_messages() == 1
    assert sql("SELECT message_id FROM inbox") == [("young",)]


@pytest.mark.parametrize("ahead", [timedelta(days=40), timedelta(days=-40)])
def test_what_was_handled_while_the_clock_of_the_database_was_behind_is_remembered(
    service: Service, sql: Sql, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    """To the database it is ours that is ahead. And one of ours that is behind has nothing forgotten either."""
    monkeypatch.setattr(inbox, "datetime", Mock(now=lambda zone: datetime.now(zone) + ahead))

    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10), message_id="m1")

    assert sql("SELECT received_at > now() + interval '39 days' FROM inbox") == [(ahead > timedelta(),)]
    assert sql("SELECT received_at > now() - interval '1 minute' FROM inbox") == [(True,)]


def test_is_done_in_small_batches_by_any_number_at_once(service: Service, sql: Sql) -> None:
    sql("""
        INSERT INTO inbox (message_id, fingerprint, outcome, received_at)
        SELECT 'm' || i, '', '{}', now() - i * interval '1 minute' FROM generate_series(1, 3000) i
    """)
    forgotten: list[int] = []

    def tidy_up() -> None:
        housekeeping = Housekeeping(service.engine, batch=100)
        while done := housekeeping.forget_old_messages():
            forgotten.append(done)

    threads = [Thread(target=tidy_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(forgotten) == 3000 - 24 * 60 + 1
    assert max(forgotten) <= 100
    assert sql("SELECT max(now() - received_at) < interval '24 hours' FROM inbox") == [(True,)]


def test_a_relay_does_it_without_being_asked(service: Service, sql: Sql) -> None:
    sql("INSERT INTO inbox VALUES ('old', '', '{}', now() - interval '25 hours'), ('young', '', '{}', now())")
    stop = Event()
    thread = Thread(target=service.housekeeping.run, args=(stop,))
    thread.start()
    try:
        assert wait_for(lambda: sql("SELECT message_id FROM inbox") == [("young",)], within=PATIENCE)
    finally:
        stop.set()
        thread.join(PATIENCE)


def test_a_relay_goes_on_doing_it_after_a_fault(service: Service, sql: Sql, caplog: pytest.LogCaptureFixture) -> None:
    sql("INSERT INTO inbox VALUES ('old', '', '{}', now() - interval '25 hours')")
    sql("ALTER TABLE inbox RENAME received_at TO arrived_at")
    stop = Event()
    thread = Thread(target=replace(service.housekeeping, every=0.05).run, args=(stop,))
    thread.start()
    try:
        assert wait_for(lambda: "housekeeping must wait" in caplog.messages, within=PATIENCE)
        sql("ALTER TABLE inbox RENAME arrived_at TO received_at")
        assert wait_for(lambda: sql("SELECT count(*) FROM inbox") == [(0,)], within=PATIENCE)
    finally:
        stop.set()
        thread.join(PATIENCE)


def test_a_consumer_trims_the_command_stream_without_being_asked(
    service: Service, redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from allocation.entrypoints.redis_commands import run

    for number in range(250):
        redis_server.xadd(COMMANDS, {"command": "{}"}, id=f"1-{number + 1}")
    redis_server.xgroup_create(COMMANDS, "allocation", id="$")
    trimmed: list[int] = []
    trim = ConsumerGroup.trim

    def and_note(self: ConsumerGroup, handled: Position | None) -> int:
        trimmed.append(trim(self, handled))
        return trimmed[-1]

    monkeypatch.setattr(ConsumerGroup, "trim", and_note)
    stop = Event()
    thread = Thread(target=run, args=(service, stop))
    thread.start()
    try:
        assert wait_for(lambda: sum(trimmed) >= 200, within=PATIENCE)
    finally:
        stop.set()
        thread.join(PATIENCE)
