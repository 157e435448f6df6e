"""`python -m benchmarks`: measure, print, and with `--write` keep it for the docs."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from math import nan

from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.catalogue import CATALOGUE
from benchmarks.machine import about
from benchmarks.results import Results, Row, at_least
from benchmarks.world import world


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what we have started is ended on the way out
    asked = _arguments()
    if not asked.redraw:
        results = _measure(asked)
        if asked.write:
            results.save(report.RESULTS)
    if asked.write or asked.redraw:
        report.write(Results.load(report.RESULTS))


def _measure(asked: argparse.Namespace) -> Results:
    results, begin = Results(), time.monotonic()
    with world() as place:
        results.about = about(place.servers)
        bench = Bench(place, results, quick=asked.quick, whole_year=asked.whole_year)
        for key in asked.only:
            for row in _rows(key, bench):
                results.rows.append(row)
                print(_said(row), flush=True)
    print(f"Took {time.monotonic() - begin:.0f} s.")
    missed = ", ".join(row.key for row in results.missed)
    print(f"Missed: {missed}." if missed else "Every goal was met.")
    return results


def _rows(key: str, bench: Bench) -> Iterator[Row]:
    """What could be measured; a fault is a goal missed, and the others still have their turn."""
    try:
        yield from CATALOGUE[key](bench)
    except Exception as error:  # noqa: BLE001 - ten minutes of measurements are not thrown away
        traceback.print_exc()
        yield Row(f"{key}-failed", f"{key} could not be measured", nan, goal=at_least(0), behind=repr(error))


def _said(row: Row) -> str:
    goal = f"{row.wanted} {row.verdict}"
    behind = f"\n{'':51} {row.behind}" if row.behind else ""
    return f"{row.key:16} {row.value:>12}  {goal:20} {row.what}{behind}"


def _keys(given: str) -> list[str]:
    keys = given.split(",")
    if unknown := set(keys) - CATALOGUE.keys():
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(CATALOGUE)}")
    return [key for key in CATALOGUE if key in keys]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=_keys, default=list(CATALOGUE), metavar="KEY,KEY", help="only these subjects")
    parser.add_argument("--quick", action="store_true", help="smaller numbers, in less than two minutes")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, its plots and results.json")
    parser.add_argument("--whole-year", action="store_true", help="import all lines of the retail year")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, and write the docs from results.json")
    asked = parser.parse_args()
    if asked.write and (asked.quick or asked.only != list(CATALOGUE)):
        parser.error("only full results are kept: --write goes with neither --quick nor --only")
    return asked


if __name__ == "__main__":
    main()
