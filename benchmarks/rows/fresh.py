"""How soon a subscriber knows: from an event's record, just before its commit, to its arrival over pub/sub."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from statistics import median

from benchmarks import load, wire
from benchmarks.bench import Bench
from benchmarks.processes import wait_for
from benchmarks.results import Row, at_most
from benchmarks.subscriber import subscriber
from benchmarks.world import SKUS

RATE = 300.0
CLIENTS = 16


def fresh(bench: Bench) -> Iterator[Row]:
    seconds, rounds = bench.of((7.0, 3), (2.0, 2))
    with (
        bench.world.database() as database,
        bench.world.service(database) as (address, _),
        bench.world.relay(database),
        subscriber(database.redis_url) as heard,
    ):
        load.run(address, wire.orders("early", SKUS), 8, seconds=10.0, most=2 * len(SKUS))
        wait_for(database.outbox_is_empty, "the first news of each product have been told", within=60)
        asked = wire.orders("order", SKUS)
        offered = [load.run(address, asked, CLIENTS, seconds=seconds, rate=RATE) for _ in range(rounds)]
        load.run(address, wire.orders("late", SKUS), 1, seconds=1.0, rate=10.0)
        ages = heard()
    heard_of = sorted((moment, age) for order, (moment, age) in ages.items() if order.startswith("order-"))
    times = [array("d", (age for _, age in some)) for some in _equal_parts(heard_of, rounds)]
    together = load.merged(offered)
    missing = len(together.latencies) - len(heard_of)
    slowest = [load.percentile(some, 99) * 1000 for some in times]
    behind = (
        f"{together.rate:,.0f}/s taken, their answers p50 {together.percentile(50) * 1000:.0f} ms, "
        f"p99 {together.percentile(99) * 1000:.0f} ms" + (f"; {missing} not heard in time" if missing > 0 else "")
    )
    what = f"from the record of an event to a subscriber, {RATE:.0f} allocations/s offered"
    middle = median(load.percentile(some, 50) * 1000 for some in times)
    yield Row("fresh-p50", f"{what}, p50", middle, "ms", at_most(20), behind)
    each = f"each of {rounds} rounds: {', '.join(f'{one:.0f}' for one in slowest)} ms"
    yield Row("fresh-p99", f"{what}, p99", median(slowest), "ms", at_most(100), each)


def _equal_parts(heard: list[tuple[float, float]], parts: int) -> list[list[tuple[float, float]]]:
    size = -(-len(heard) // parts)
    return [heard[start : start + size] for start in range(0, len(heard), size)]
