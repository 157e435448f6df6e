"""A year of order lines through `allocation import`: how fast, in how much memory, and whether the counts are right."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import retail
from benchmarks.bench import Bench
from benchmarks.processes import memory, program
from benchmarks.results import Row, at_least, at_most
from benchmarks.simulation import batches_in, expected_counts, lines_in
from benchmarks.world import Database


def imports(bench: Bench) -> Iterator[Row]:
    most = None if bench.whole_year else bench.of(100_000, 10_000)
    most_batches = bench.of(None, 6_000)
    year = retail.year(bench.world.home, most or retail.ALL_LINES)
    with bench.world.database(stocked=False) as database:
        _import(bench, database, "batches", year.batches, *retail.OF_BATCHES, *_limit(most_batches))
        seconds, most_memory, counted = _import(bench, database, "orders", year.lines, *retail.OPTIONS, *_limit(most))
    lines = sum(counted.values())
    expected = expected_counts(batches_in(year.batches, most_batches), lines_in(year.lines, most))
    wrong = {name: counted.get(name, 0) - expected[name] for name in counted if counted.get(name, 0) != expected[name]}
    yield Row(
        key="import",
        what=f"order lines imported a second, of {year.said}",
        measured=lines / seconds,
        unit="/s",
        goal=at_least(6_000),
        behind=f"{lines:,} lines in {seconds:.1f} s",
    )
    yield Row("import-memory", "the most memory that the import had", most_memory, "MB", at_most(150))
    yield Row(
        key="import-counts",
        what="lines counted otherwise than the rules say",
        measured=sum(map(abs, wrong.values())),
        goal=at_most(0),
        behind=", ".join(f"{count:,} {name}" for name, count in counted.items() if count),
    )


def _limit(most: int | None) -> tuple[str, ...]:
    return ("--limit", str(most)) if most else ()


def _import(
    bench: Bench, database: Database, what: str, file: Path, *options: str
) -> tuple[float, float, dict[str, int]]:
    """Seconds, megabytes, and the counts that it printed."""
    log = bench.world.home / f"import-{what}.log"
    begin, most = time.monotonic(), 0.0
    with program("allocation", "import", what, str(file), *options, log=log, **database.environment) as process:
        while process.poll() is None:
            most = max(most, memory(process.pid, "VmHWM"))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"the import of {what} failed: {log.read_text()[-500:]}")
    *_, counts = (line for line in log.read_text().splitlines() if re.match(r"[\d,]+ (added|allocated),", line))
    found = {name: int(number.replace(",", "")) for number, name in re.findall(r"([\d,]+) ([a-z ]+)", counts)}
    return time.monotonic() - begin, most, found
