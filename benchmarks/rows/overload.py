"""More clients than can be served: good answers must not become fewer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks import load, wire
from benchmarks.bench import Bench, in_turn
from benchmarks.results import Row, at_least
from benchmarks.world import SKUS


def overload(bench: Bench) -> Iterator[Row]:
    levels = bench.of([1, 2, 4, 8, 16, 32, 64, 128], [4, 16, 64])
    seconds, rounds = bench.of((2.5, 3), (1.0, 2))
    with bench.world.database() as database, bench.world.service(database) as (address, _):
        asked = wire.orders("order", SKUS)
        load.run(address, asked, 8, seconds=1.0)
        given = in_turn(rounds, *(partial(load.run, address, asked, level, seconds=seconds) for level in levels))
        rates = {level: median(each.rate for each in loads) for level, loads in zip(levels, given, strict=True)}
        best = max(rates, key=lambda level: rates[level])
        if 4 * best not in rates:
            levels = [*levels, 4 * best]
            given.append([load.run(address, asked, 4 * best, seconds=seconds) for _ in range(rounds)])
            rates[4 * best] = median(each.rate for each in given[-1])
    whole = {level: load.merged(loads) for level, loads in zip(levels, given, strict=True)}
    bench.results.series["overload-rate"] = [(level, rates[level]) for level in levels]
    for percent in (50, 99):
        points = [(float(level), whole[level].percentile(percent) * 1000) for level in levels]
        bench.results.series[f"overload-p{percent}"] = points
    everything = load.merged(list(whole.values()))
    others = everything.errors - everything.statuses[503]
    yield Row(
        key="overload",
        what=f"good answers a second with {4 * best} clients against the best, which is with {best}",
        measured=rates[4 * best] / rates[best],
        goal=at_least(0.9),
        behind=f"{rates[4 * best]:,.0f}/s, p99 {whole[4 * best].percentile(99) * 1000:.0f} ms against "
        f"{rates[best]:,.0f}/s, p99 {whole[best].percentile(99) * 1000:.0f} ms; "
        f"{everything.statuses[503]} answers of {everything.requests:,} were 503, {others} other errors; "
        f"the slowest answer took {everything.slowest * 1000:.0f} ms",
    )
