"""Whole orders, and those who wait: what each line more, each line that waits, and each that is passed over costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from itertools import count
from random import Random
from statistics import median

from allocation.bootstrap import Service
from allocation.domain.commands import Allocate, Command, CreateBatch, OrderedLine, PlaceOrder
from benchmarks.bench import Bench, in_turn
from benchmarks.fill import holds_that_last, lines_that_wait
from benchmarks.results import Row, at_most, ratio
from benchmarks.world import PLENTY
from messaging.envelope import Request

_SKUS = [f"ORDERED-{number}" for number in range(300)]
_NUMBERS = count()
_CHOOSE = Random(17)


def orders(bench: Bench) -> Iterator[Row]:
    rounds, times = bench.of((15, 10), (5, 5))
    with bench.world.database(stocked=False) as database, database.service() as service:
        batches = [Request(CreateBatch(f"batch-{sku}", sku, PLENTY)) for sku in _SKUS]
        service.bus.handle_together(batches)
        one, ten, many = in_turn(
            rounds, *(partial(_time, service, partial(_order, size), times) for size in (1, 10, 200))
        )
    yield _compared("order-10", "an order of 10 lines over 10 SKUs against one of one line", one, ten, 3)
    slowest = max(many) * 1000
    yield Row("order-200", "an order of 200 lines over 200 SKUs, the slowest round", slowest, "ms", at_most(250))


def queue(bench: Bench) -> Iterator[Row]:
    rounds, times = bench.of((20, 5), (8, 3))
    few, many = 10, bench.of(100_000, 20_000)
    with bench.world.database(stocked=False) as database, database.service() as service:
        for size in (0, few, many):
            sku = f"WANTED-{size}"
            service.bus.handle(CreateBatch(f"none-{sku}", sku, 0))
            with database.connect() as connection:
                lines_that_wait(connection, sku, size)
            for number in range(10):  # together enough for the newcomers, each too little for who waits
                service.bus.handle(CreateBatch(f"little-{sku}-{number}", sku, 19))
        ten = [partial(_time, service, partial(_batch, f"WANTED-{size}", 10), times) for size in (few, many)]
        new = [partial(_time, service, partial(_newcomer, f"WANTED-{size}"), times) for size in (0, many)]
        of_few, of_many, alone, beside_many = in_turn(rounds, *ten, *new)
    what = f"a batch of 10, which nobody fits, with {many:,} lines that wait against {few}"
    yield _compared("queue-batch", what, of_few, of_many, 1.3)
    what = f"an allocation with {many:,} lines that wait against none"
    yield _compared("queue-newcomer", what, alone, beside_many, 1.1)


def holds(bench: Bench) -> Iterator[Row]:
    rounds, times = bench.of((25, 10), (8, 5))
    many = bench.of(100_000, 20_000)
    with bench.world.database(stocked=False) as database, database.service() as service:
        for sku, size in (("FREE", 0), ("HELD", many)):
            service.bus.handle(CreateBatch(f"of-{sku}", sku, PLENTY))
            with database.connect() as connection:
                holds_that_last(connection, sku, f"of-{sku}", size)
        asked = [partial(_time, service, partial(_newcomer, sku), times) for sku in ("FREE", "HELD")]
        alone, beside_many = in_turn(rounds, *asked)
    yield _compared("holds", f"an allocation with {many:,} holds on its SKU against none", alone, beside_many, 1.05)


def passed_over(bench: Bench) -> Iterator[Row]:
    rounds, many = bench.of((9, 100_000), (3, 50_000))
    with bench.world.database(stocked=False) as database, database.service() as service:
        for sku, size in (("LATE", many), ("NOBODY", 0)):
            service.bus.handle(CreateBatch(f"none-{sku}", sku, 0))
            with database.connect() as connection:
                lines_that_wait(connection, sku, size, needed_by=date(2030, 12, 31))
        late, nobody = in_turn(rounds, *(partial(_time, service, partial(_late, sku), 1) for sku in ("LATE", "NOBODY")))
    each = median(after - before for after, before in zip(late, nobody, strict=True)) / many * 1e6
    behind = f"{median(late) * 1000:.1f} ms against {median(nobody) * 1000:.1f} ms"
    what = f"each of {many:,} lines that are passed over, since the batch comes too late for them"
    yield Row("queue-passed-over", what, each, "µs", at_most(0.2), behind)


def filled(bench: Bench) -> Iterator[Row]:
    rounds, many, few = bench.of(3, 1), 10_000, 100
    with bench.world.database(stocked=False) as database, database.service() as service:
        skus = {size: [f"FILLED-{size}-{number}" for number in range(rounds)] for size in (few, many)}
        for size, each in skus.items():
            for sku in each:
                service.bus.handle(CreateBatch(f"none-{sku}", sku, 0))
                with database.connect() as connection:
                    lines_that_wait(connection, sku, size)
        little, much = in_turn(rounds, *(partial(_fill_next, service, iter(skus[size])) for size in (few, many)))
        with database.connect() as connection:
            left = connection.execute("SELECT count(*) FROM backorders").fetchone()
    if left != (0,):
        raise RuntimeError(f"{left} lines still wait")
    by_line = [seconds / many for seconds in much], [seconds / few for seconds in little]
    behind = f"{median(by_line[0]) * 1e6:.0f} µs against {median(by_line[1]) * 1e6:.0f} µs"
    what = "each line of 10,000 that are served from one batch, against each of 100, in one transaction"
    yield Row("filled", what, ratio(*by_line), goal=at_most(1.2), behind=behind)
    yield Row("filled-10000", "10,000 lines that are served from one batch", median(much), "s", at_most(2))


def _order(size: int) -> Command:
    lines = tuple(OrderedLine(sku, 1) for sku in _CHOOSE.sample(_SKUS, size))
    return PlaceOrder(f"order-{next(_NUMBERS)}", lines, "all_or_nothing")


def _batch(sku: str, qty: int) -> Command:
    return CreateBatch(f"more-{next(_NUMBERS)}", sku, qty)


def _late(sku: str) -> Command:
    return CreateBatch(f"late-{next(_NUMBERS)}", sku, 100, date(2031, 1, 1))


def _newcomer(sku: str) -> Command:
    return Allocate(f"newcomer-{next(_NUMBERS)}", sku, 1)


def _time(service: Service, command: Callable[[], Command], times: int) -> float:
    taken = []
    for _ in range(times):
        asked = command()
        begin = time.perf_counter()
        service.bus.handle(asked)
        taken.append(time.perf_counter() - begin)
    return median(taken)


def _fill_next(service: Service, skus: Iterator[str]) -> float:
    sku = next(skus)
    return _time(service, lambda: CreateBatch(f"all-{sku}", sku, PLENTY), 1)


def _compared(key: str, what: str, little: list[float], much: list[float], goal: float) -> Row:
    behind = f"{median(much) * 1000:.2f} ms against {median(little) * 1000:.2f} ms"
    return Row(key, what, ratio(much, little), goal=at_most(goal), behind=behind)
