"""What an allocation costs when much is stored already: lines of its SKU, batches of its SKU, orders in the view."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from random import Random
from statistics import median

from allocation.bootstrap import Service
from allocation.domain.commands import Allocate, Command, CreateBatch
from benchmarks import load, wire
from benchmarks.bench import Bench, in_turn
from benchmarks.fill import allocate_lines, refresh_statistics, view_of
from benchmarks.load import Address
from benchmarks.results import Row, at_most, ratio
from benchmarks.world import PLENTY
from messaging.envelope import Request

_NUMBERS = count()


def lines(bench: Bench) -> Iterator[Row]:
    sizes = bench.of([0, 1_000, 10_000, 100_000], [0, 100_000])
    skus = {f"LINES-{size}": size for size in sizes}
    with bench.world.database(stocked=False) as database, database.service() as service:
        _do(service, [CreateBatch(f"batch-{sku}", sku, PLENTY) for sku in skus])
        with database.connect() as connection:
            for sku, size in skus.items():
                allocate_lines(connection, [sku], size)
        times = _times(bench, service, list(skus))
    bench.results.series["growth-lines"] = _points(sizes, times)
    yield _row("growth-lines", "an allocation with 100,000 lines on its SKU against none", times[0], times[-1], 1.1)


def batches(bench: Bench) -> Iterator[Row]:
    sizes = bench.of([1, 10, 100, 1_000], [1, 100, 1_000])
    skus = [*(f"OPEN-{size}" for size in sizes), "EXHAUSTED"]
    with bench.world.database(stocked=False) as database, database.service() as service:
        for sku, size in zip(skus, sizes, strict=False):
            _do(service, [CreateBatch(f"{sku}-{number}", sku, PLENTY) for number in range(size)])
        _do(service, [CreateBatch(f"old-{number}", "EXHAUSTED", 1) for number in range(1_000)])
        _do(service, [Allocate(f"old-{number}", "EXHAUSTED", 1) for number in range(1_000)])
        _do(service, [CreateBatch("new", "EXHAUSTED", PLENTY)])
        with database.connect() as connection:
            refresh_statistics(connection)
        *times, exhausted = _times(bench, service, skus)
    bench.results.series["growth-open-batches"] = _points(sizes, times)
    one, hundred, thousand = times[0], times[-2], times[-1]
    yield _row("growth-exhausted", "with 1,000 exhausted batches and an open one against that one", one, exhausted, 1.1)
    yield _row("growth-open-100", "with 100 open batches against one", one, hundred, 1.3)
    yield _row("growth-open-1000", "with 1,000 open batches against one", one, thousand, 3)


def view(bench: Bench) -> Iterator[Row]:
    sizes = [1_000, bench.of(1_000_000, 200_000)]
    seconds, rounds = bench.of((1.0, 8), (0.5, 4))
    with ExitStack() as stack:
        contestants = []
        for size in sizes:
            database = stack.enter_context(bench.world.database(stocked=False))
            with database.connect() as connection:
                view_of(connection, size)
            address, _ = stack.enter_context(bench.world.service(database, workers=1))
            load.run(address, _questions(size), 1, seconds=0.5)
            contestants.append(partial(_median_of_answers, address, size, seconds))
        few, many = in_turn(rounds, *contestants)
    yield _row("view", f"`GET /allocations/<orderid>` with {sizes[1]:,} rows against 1,000, 1 client", few, many, 1.1)


def _median_of_answers(address: Address, size: int, seconds: float) -> float:
    answers = load.run(address, _questions(size), 1, seconds=seconds)
    if answers.errors:
        raise RuntimeError(f"not every order was found: {answers.statuses}")
    return answers.percentile(50)


def _questions(size: int) -> Iterator[bytes]:
    choose = Random(size).randint
    while True:
        yield wire.get(f"/allocations/order-{choose(1, size)}")


def _do(service: Service, commands: Iterable[Command]) -> None:
    asked = [Request(command) for command in commands]
    for start in range(0, len(asked), 100):
        service.bus.handle_together(asked[start : start + 100])


def _times(bench: Bench, service: Service, skus: list[str]) -> list[list[float]]:
    """For each SKU the median times of an allocation, round by round."""
    rounds, times = bench.of((60, 10), (20, 8))
    return in_turn(rounds, *(partial(_time, service, sku, times) for sku in skus))


def _time(service: Service, sku: str, times: int) -> float:
    taken = []
    for _ in range(times):
        command = Allocate(f"order-{next(_NUMBERS)}", sku, 1)
        begin = time.perf_counter()
        service.bus.handle(command)
        taken.append(time.perf_counter() - begin)
    return median(taken)


def _points(sizes: list[int], times: list[list[float]]) -> list[tuple[float, float]]:
    return [(size, median(each) * 1000) for size, each in zip(sizes, times, strict=True)]


def _row(key: str, what: str, little: list[float], much: list[float], goal: float) -> Row:
    behind = f"{median(much) * 1000:.2f} ms against {median(little) * 1000:.2f} ms"
    return Row(key, what, ratio(much, little), goal=at_most(goal), behind=behind)
