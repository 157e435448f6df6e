"""Whether a worker's memory grows with what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

from benchmarks import load, wire
from benchmarks.bench import Bench
from benchmarks.processes import children, memory
from benchmarks.results import Row, at_most
from benchmarks.world import SKUS


def memory_of_a_worker(bench: Bench) -> Iterator[Row]:
    few, many = 2_000, bench.of(200_000, 20_000)
    with bench.world.database() as database, bench.world.service(database, workers=1) as (address, pid):
        (worker,) = children(pid)
        asked = _mixed()
        begun = load.run(address, asked, 8, seconds=60, most=few)
        before = memory(worker)
        rest = load.run(address, asked, 8, seconds=bench.of(210, 30), most=many - few)
        after = memory(worker)
    yield Row(
        key="memory",
        what=f"memory of a worker after {begun.requests + rest.requests:,} requests against after {begun.requests:,}",
        measured=after / before,
        goal=at_most(1.1),
        behind=f"{after:.0f} MB against {before:.0f} MB, at {rest.requests / rest.seconds:,.0f} requests/s",
    )


def _mixed() -> Iterator[bytes]:
    """Of ten requests a new order, one that was allocated long before, and eight questions."""
    choose = Random(1).randint
    for number in count():
        yield _order(number)
        yield _order(choose(0, max(0, number - 100)))
        for _ in range(8):
            yield wire.get(f"/allocations/order-{choose(0, max(0, number - 100))}")


def _order(number: int) -> bytes:
    return wire.allocate(f"order-{number}", SKUS[number % len(SKUS)])
