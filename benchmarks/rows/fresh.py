"""How soon a subscriber knows: from an event's record, just before its commit, to its arrival over pub/sub."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from benchmarks import load, wire
from benchmarks.bench import Bench
from benchmarks.results import Row, at_most
from benchmarks.subscriber import subscriber
from benchmarks.world import SKUS

RATE = 300.0
CLIENTS = 16


def fresh(bench: Bench) -> Iterator[Row]:
    seconds = bench.of(20.0, 4.0)
    with (
        bench.world.database() as database,
        bench.world.service(database) as (address, _),
        bench.world.relay(database),
        subscriber(database.redis_url) as heard,
    ):
        load.run(address, wire.orders("early", SKUS), 8, seconds=10.0, most=500)
        offered = load.run(address, wire.orders("order", SKUS), CLIENTS, seconds=seconds, rate=RATE)
        load.run(address, wire.orders("late", SKUS), 1, seconds=1.0, rate=10.0)
        ages = heard()
    times = array("d", (age for order, (_, age) in ages.items() if order.startswith("order-")))
    missing = len(offered.latencies) - len(times)
    behind = (
        f"{offered.rate:,.0f}/s taken, their answers p50 {offered.percentile(50) * 1000:.0f} ms, "
        f"p99 {offered.percentile(99) * 1000:.0f} ms" + (f"; {missing} not heard in time" if missing > 0 else "")
    )
    what = f"from the record of an event to a subscriber, {RATE:.0f} allocations/s offered"
    yield Row("fresh-p50", f"{what}, p50", load.percentile(times, 50) * 1000, "ms", at_most(20), behind)
    yield Row("fresh-p99", f"{what}, p99", load.percentile(times, 99) * 1000, "ms", at_most(100))
