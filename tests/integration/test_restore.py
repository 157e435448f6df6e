"""A backup, restored into another cluster: nothing is lost, nothing is stuck, and the data is consistent."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis

from allocation.adapters.redis_channels import EVENTS
from allocation.bootstrap import Service, bootstrap
from allocation.check import open_snapshot
from allocation.config import Settings, postgres_url
from allocation.domain import commands
from allocation.domain.errors import InvalidSku
from allocation.service_layer.routing import PUBLISH_EVENT, SEND_OUT_OF_STOCK_NOTIFICATION
from embedded.binaries import postgres_programs
from embedded.postgres import Postgres
from embedded.waiting import wait_for

Sql = Callable[..., list[tuple[Any, ...]]]
PATIENCE = 30.0
OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
EFFECTS = (PUBLISH_EVENT, SEND_OUT_OF_STOCK_NOTIFICATION)


@pytest.fixture(scope="session")
def another_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """With a history of transactions of its own: far fewer than where the backup comes from."""
    postgres = Postgres(tmp_path_factory.mktemp("another-cluster"), durable=False)
    postgres.start()
    yield postgres
    postgres.stop()


def tool(name: str, *arguments: str) -> None:
    subprocess.run([postgres_programs() / name, *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture
def back_up(database_url: str, tmp_path: Path) -> Callable[[], Path]:
    """Takes a backup, and says where it is."""

    def take() -> Path:
        backup = tmp_path / "allocation.dump"
        from_here = f"--dbname={database_url.replace('+psycopg', '')}"
        tool("pg_dump", "--format=custom", f"--file={backup}", from_here)
        return backup

    return take


@pytest.fixture
def restore(settings: Settings, another_cluster: Postgres) -> Iterator[Callable[[Path], Service]]:
    """Starts the service on what was restored into another cluster."""
    with ExitStack() as clean_up:

        def into_another_cluster(backup: Path) -> Service:
            there = f"--dbname={another_cluster.url}"
            tool("pg_restore", "--clean", "--if-exists", "--no-owner", there, str(backup))
            service = bootstrap(replace(settings, database_url=postgres_url(another_cluster.url)))
            clean_up.callback(service.close)
            return service

        yield into_another_cluster


def tell_all(service: Service) -> None:
    for effect in EFFECTS:
        while service.relay.deliver(effect):
            pass


def differences(service: Service) -> list[str]:
    with open_snapshot(service.engine) as snapshot:
        return [str(difference) for difference in snapshot.differences()]


def sequences(redis_server: redis.Redis) -> list[int]:
    entries: Any = redis_server.xrange(EVENTS)
    return [int(json.loads(fields[b"event"])["sequence"]) for _, fields in entries]


def test_everything_goes_on_where_the_backup_was_taken(
    service: Service, back_up: Callable[[], Path], restore: Callable[[Path], Service], redis_server: redis.Redis
) -> None:
    """Taken while an event waits, one is claimed by a relay, one is dead, and a message is a dead letter."""
    bus = service.bus
    bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    bus.handle(commands.Allocate("o1", "LAMP", 4), message_id="m1")
    with pytest.raises(InvalidSku):
        bus.handle(commands.Allocate("o1", "SOFA", 4), message_id="m2")
    tell_all(service)
    bus.handle(commands.Allocate("o2", "LAMP", 4))
    bus.handle(commands.Allocate("o3", "LAMP", 4))
    service.dead_letters.store(source="change_batch_quantity", body=b"?", reason="bad")
    [claim] = service.relay.deliveries.claim(PUBLISH_EVENT)
    assert [letter.version for letter in claim.messages] == [3, 4]
    backup = back_up()
    service.relay.deliveries.settle(PUBLISH_EVENT, [claim])
    tell_all(service)
    bus.handle(commands.Allocate("after the backup", "LAMP", 2))
    tell_all(service)

    restored = restore(backup)

    assert differences(restored) == []
    assert restored.bus.handle(commands.Allocate("o1", "LAMP", 4), message_id="m1") == "b1", "known, and unchanged"
    with pytest.raises(InvalidSku):
        restored.bus.handle(commands.Allocate("o1", "SOFA", 4), message_id="m2")
    assert [letter.reason for letter in restored.dead_letters.messages()] == ["bad"]

    assert restored.bus.handle(commands.Allocate("o5", "LAMP", 2)) == "b1", "the place of one that is forgotten"
    told = wait_for(lambda: restored.relay.deliver(PUBLISH_EVENT), within=PATIENCE)
    assert told, "the claim of a relay that is no more has run out"
    tell_all(restored)
    assert sequences(redis_server) == [1, 2, 3, 4, 5, 3, 4, 5], "told again, and the new one under its own version"
    assert differences(restored) == []


def test_after_the_documented_restore_whoever_reads_from_the_beginning_is_told_what_the_log_holds(
    service: Service, back_up: Callable[[], Path], restore: Callable[[Path], Service], redis_server: redis.Redis
) -> None:
    """Redis was told of more than the backup holds, and new events get the numbers of what is lost."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    tell_all(service)
    backup = back_up()
    service.bus.handle(commands.Allocate("lost", "LAMP", 4))
    service.bus.handle(commands.Allocate("lost, too", "LAMP", 4))
    tell_all(service)

    restored = restore(backup)
    assert redis_server.delete(*what_the_page_has_redis_forget()) == 2
    restored.bus.handle(commands.Allocate("new", "LAMP", 10))
    restored.backfill.fill()
    tell_all(restored)

    assert heard(redis_server) == [("LAMP", "b1"), ("LAMP", "new")]
    assert restored.backfill.fill() == 0, "and no more is missing"


def what_the_page_has_redis_forget() -> list[str]:
    [keys] = re.findall(r'^\$ redis-cli -u "\$REDIS_URL" DEL (.+)$', OPERATIONS.read_text("utf-8"), re.MULTILINE)
    return shlex.split(keys)


def heard(redis_server: redis.Redis) -> list[tuple[str, str]]:
    """By somebody who leaves out what is no higher than what they have: SKU, and the batch or order."""
    entries: Any = redis_server.xrange(EVENTS)
    highest: dict[str, int] = {}
    new = []
    for _, fields in entries:
        event = json.loads(fields[b"event"])
        sku, number, data = event["subject"], int(event["sequence"]), event["data"]
        if number > highest.get(sku, 0):
            highest[sku] = number
            new.append((sku, data.get("orderid") or data["ref"]))
    return new


def test_a_new_redis_gets_the_stream_too(
    service: Service, back_up: Callable[[], Path], restore: Callable[[Path], Service], redis_server: redis.Redis
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    service.bus.handle(commands.Allocate("o1", "LAMP", 4))
    tell_all(service)
    backup = back_up()
    redis_server.flushall()

    restored = restore(backup)
    restored.backfill.fill()

    assert sequences(redis_server) == [1, 2]


def test_a_backup_taken_while_the_service_works_balances(
    service: Service, back_up: Callable[[], Path], restore: Callable[[Path], Service]
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1_000_000))
    answered: list[str] = []

    def work() -> None:
        for number in range(150):
            service.bus.handle(commands.Allocate(f"o{number}", "LAMP", 1))
            answered.append(f"o{number}")
            tell_all(service)

    worker = Thread(target=work)
    worker.start()
    assert wait_for(lambda: len(answered) > 20, within=PATIENCE)
    before = list(answered)
    backup = back_up()
    worker.join()

    restored = restore(backup)

    assert differences(restored) == []
    assert all(restored.views.allocations(orderid) for orderid in before)
