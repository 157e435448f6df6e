"""The service over HTTP against a bare endpoint that writes the same rows; and many clients at one SKU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median

from benchmarks import load, wire
from benchmarks.bench import Bench, in_turn
from benchmarks.load import Address
from benchmarks.processes import wait_for
from benchmarks.results import Row, at_least, at_most, ratio
from benchmarks.world import SKUS, Database


def http(bench: Bench) -> Iterator[Row]:
    for with_relay in bench.of((False, True), (False,)):
        ours, theirs = _against_the_bare_endpoint(bench, with_relay=with_relay)
        yield Row(
            key="http-relay" if with_relay else "http",
            what="`POST /allocate` against a bare endpoint, 8 clients, 1,000 SKUs"
            + (", with a relay at work" if with_relay else ""),
            measured=ratio([each.rate for each in ours], [each.rate for each in theirs]),
            goal=None if with_relay else at_least(0.95),
            behind=f"{_said(ours)} against {_said(theirs)}; the client needs {load.merged(ours).busy:.0%} of a core",
        )


def _against_the_bare_endpoint(bench: Bench, *, with_relay: bool) -> tuple[list[load.Load], list[load.Load]]:
    seconds, rounds = bench.of((2.0, 10), (1.2, 4))
    rounds = rounds // 2 if with_relay else rounds
    with ExitStack() as stack:
        databases = [stack.enter_context(bench.world.database()) for _ in range(2)]
        service, _ = stack.enter_context(bench.world.service(databases[0]))
        endpoint = stack.enter_context(bench.world.bare_endpoint(databases[1]))
        if with_relay:
            for database in databases:
                stack.enter_context(bench.world.relay(database))
        contestants = []
        for address, database in zip((service, endpoint), databases, strict=True):
            asked = wire.orders("order", SKUS)
            load.run(address, asked, 8, seconds=1.0)
            contestants.append(partial(_slice, address, asked, seconds, database if with_relay else None))
        ours, theirs = in_turn(rounds, *contestants)
    return ours, theirs


def _slice(address: Address, asked: Iterator[bytes], seconds: float, carried_out: Database | None) -> load.Load:
    done = load.run(address, asked, 8, seconds=seconds)
    if carried_out:  # or its relay would still be at work while the other contestant has its turn
        wait_for(carried_out.outbox_is_empty, "the outbox is empty", within=60)
    return done


def hot(bench: Bench) -> Iterator[Row]:
    seconds, rounds = bench.of((2.5, 6), (1.2, 3))
    with bench.world.database() as database, bench.world.service(database) as (address, _):
        asked = wire.orders("spread", SKUS), wire.orders("hot", SKUS[:1])
        for each in asked:
            load.run(address, each, 32, seconds=1.0)
        spread, one = in_turn(rounds, *(partial(load.run, address, each, 32, seconds=seconds) for each in asked))
    yield Row(
        key="hot",
        what="32 clients at one SKU against 32 at 1,000 SKUs, good answers a second",
        measured=ratio([each.rate for each in one], [each.rate for each in spread]),
        goal=at_least(1.0),
        behind=f"{_said(one)} against {_said(spread)}",
    )
    yield Row(
        key="hot-p99",
        what="the same, the slowest hundredth (p99)",
        measured=ratio([each.percentile(99) for each in one], [each.percentile(99) for each in spread]),
        goal=at_most(2),
    )
    yield Row(
        key="hot-errors",
        what="the same, answers that were errors at the one SKU",
        measured=sum(each.errors for each in one),
        goal=at_most(0),
    )


def _said(rounds: list[load.Load]) -> str:
    errors = sum(each.errors for each in rounds)
    rate = f"{median(each.rate for each in rounds):,.0f}/s, p99 {_p99(rounds):.0f} ms"
    return rate + (f", {errors} errors" if errors else "")


def _p99(rounds: list[load.Load]) -> float:
    return median(each.percentile(99) for each in rounds) * 1000
