"""How fast what waits is told to Redis, and whether it arrives in order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import redis

from allocation.adapters.redis_channels import EVENTS
from benchmarks.bench import Bench
from benchmarks.fill import allocate_lines
from benchmarks.processes import wait_for
from benchmarks.results import Row, at_least, at_most
from benchmarks.world import SKUS


def relay(bench: Bench) -> Iterator[Row]:
    each = bench.of(100, 20)
    with bench.world.database() as database, redis.Redis.from_url(database.redis_url) as client:
        with database.connect() as connection:
            allocate_lines(connection, SKUS, each)
        with bench.world.relay(database):
            wait_for(lambda: client.xlen(EVENTS), "the relay has begun", within=60)
            told, begin = int(client.xlen(EVENTS)), time.monotonic()
            wait_for(database.outbox_is_empty, "the outbox is empty", within=300)
            seconds = time.monotonic() - begin
        told = int(client.xlen(EVENTS)) - told
        versions = [*_versions_told(client)]
    yield Row(
        key="relay",
        what=f"events a second to Redis, {len(versions):,} waiting on 1,000 SKUs",
        measured=told / seconds,
        unit="/s",
        goal=at_least(10_000),
        behind=f"{told:,} in {seconds:.1f} s",
    )
    yield Row(
        key="relay-order",
        what="events missing in the stream, or there twice or out of order",
        measured=abs(len(versions) - len(SKUS) * (each + 1)) + _out_of_order(versions),
        goal=at_most(0),
    )


def _versions_told(client: redis.Redis) -> Iterator[tuple[str, int]]:
    """Of each entry of the stream, its SKU and version."""
    after = "-"
    while entries := _entries(client, after):
        for _, fields in entries:
            event = json.loads(fields[b"event"])
            yield event["subject"], int(event["sequence"])
        after = f"({entries[-1][0].decode()}"


def _entries(client: redis.Redis, after: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: Any = client.xrange(EVENTS, min=after, count=10_000)
    return list(found)


def _out_of_order(versions: list[tuple[str, int]]) -> int:
    last: dict[str, int] = {}
    wrong = 0
    for sku, version in versions:
        wrong += version != last.get(sku, 0) + 1
        last[sku] = version
    return wrong
