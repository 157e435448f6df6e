"""The bus without HTTP against the bare statements, each in one process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.bench import Bench, in_turn
from benchmarks.loop import loop
from benchmarks.results import Row, at_least, ratio


def bus(bench: Bench) -> Iterator[Row]:
    seconds, rounds = bench.of((1.5, 8), (1.0, 3))
    for threads in (8, 1):
        with (
            bench.world.database() as ours,
            bench.world.database() as theirs,
            loop(ours, threads, through_the_bus=True) as through_the_bus,
            loop(theirs, threads, through_the_bus=False) as bare,
        ):
            through_the_bus(0.5)
            bare(0.5)
            our_rates, bare_rates = in_turn(rounds, partial(through_the_bus, seconds), partial(bare, seconds))
        yield Row(
            key=f"bus-{threads}",
            what=f"the bus against bare psycopg, one process, {threads} thread{'s' if threads > 1 else ''}",
            measured=ratio(our_rates, bare_rates),
            goal=at_least(0.7),
            behind=f"{median(our_rates):,.0f}/s against {median(bare_rates):,.0f}/s",
        )
