"""A batch that is cut to nothing: what it costs to move each of its lines, when they are few and when they are many."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from statistics import median

from allocation.bootstrap import Service
from allocation.domain.commands import ChangeBatchQuantity, CreateBatch
from benchmarks.bench import Bench, in_turn
from benchmarks.fill import allocate_lines
from benchmarks.results import Row, at_most, ratio
from benchmarks.world import PLENTY
from messaging.envelope import Request


def cut(bench: Bench) -> Iterator[Row]:
    rounds, many, few = bench.of(3, 1), 10_000, 100
    skus = {size: [f"CUT-{size}-{number}" for number in range(rounds)] for size in (few, many)}
    with bench.world.database(stocked=False) as database, database.service() as service:
        for size, each in skus.items():
            for which in ("batch", "elsewhere"):  # in the order in which they are preferred
                service.bus.handle_together([Request(CreateBatch(f"{which}-{sku}", sku, PLENTY)) for sku in each])
            with database.connect() as connection:
                allocate_lines(connection, each, size)
        little, much = in_turn(rounds, *(partial(_cut_next, service, iter(skus[size]), size) for size in (few, many)))
        with database.connect() as connection:
            stayed = connection.execute("SELECT count(*) FROM allocations WHERE batchref LIKE 'batch-%'").fetchone()
    if stayed != (0,):
        raise RuntimeError(f"{stayed} lines were not moved")
    yield Row(
        key="cut",
        what="each line of 10,000 that move from a batch cut to nothing, against each of 100, in one transaction",
        measured=ratio(much, little),
        goal=at_most(1.2),
        behind=f"{median(much) * 1e6:.0f} µs against {median(little) * 1e6:.0f} µs",
    )


def _cut_next(service: Service, skus: Iterator[str], lines: int) -> float:
    """Seconds for each line."""
    command = ChangeBatchQuantity(f"batch-{next(skus)}", 0)
    begin = time.perf_counter()
    service.bus.handle(command)
    return (time.perf_counter() - begin) / lines
