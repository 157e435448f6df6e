"""A loop of allocations in a process of its own, in one thread or several: the bus, or the bare statements."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection
from random import Random
from threading import Thread

from allocation.domain.commands import Allocate
from benchmarks import bare
from benchmarks.world import SKUS, Database

Allocation = Callable[[str, str], object]
Round = Callable[[float], float]


@contextmanager
def loop(database: Database, threads: int, *, through_the_bus: bool) -> Iterator[Round]:
    """A function that lets the loop run for so many seconds, and gives allocations a second."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, database, threads, through_the_bus), daemon=True)
    process.start()
    theirs.close()

    def run(seconds: float) -> float:
        ours.send(seconds)
        if not ours.poll(seconds + 60):
            raise TimeoutError("the loop does not come to an end")
        rate: float = ours.recv()
        return rate

    try:
        yield run
    finally:
        with suppress(OSError):  # it may have ended
            ours.send(0.0)
        process.join(10)
        process.kill()


def _serve(pipe: Connection, database: Database, threads: int, through_the_bus: bool) -> None:
    numbers = [count() for _ in range(threads)]
    with _through_the_bus(database, threads) if through_the_bus else _bare(database, threads) as allocations:
        while seconds := pipe.recv():
            pipe.send(_run(allocations, numbers, seconds))


@contextmanager
def _through_the_bus(database: Database, threads: int) -> Iterator[list[Allocation]]:
    with database.service(connections=threads) as service:
        yield [lambda orderid, sku: service.bus.handle(Allocate(orderid, sku, 1))] * threads


@contextmanager
def _bare(database: Database, threads: int) -> Iterator[list[Allocation]]:
    connections = [bare.connect(database.url) for _ in range(threads)]

    def allocation(number: int) -> Allocation:
        return lambda orderid, sku: bare.allocate(connections[number], orderid, sku, 1)

    yield [allocation(number) for number in range(threads)]
    for connection in connections:
        connection.close()


def _run(allocations: list[Allocation], numbers: list[count[int]], seconds: float) -> float:
    done = [0] * len(allocations)
    stop = time.perf_counter() + seconds

    def work(number: int) -> None:
        choose = Random().choice
        while time.perf_counter() < stop:
            allocations[number](f"order-{number}-{next(numbers[number])}", choose(SKUS))
            done[number] += 1

    workers = [Thread(target=work, args=(number,)) for number in range(len(allocations))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / seconds
