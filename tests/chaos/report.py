"""The report of a run, in Markdown: where it ran, a row for each thing that broke, and what that does not prove."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.rounds import Result
from tests.chaos.steps import MEANINGS, PART_OF

HEAD = """\
# Chaos

In each round the whole service works for a few clients, something breaks in the middle, and when all is quiet again a
model that shares no code with the service judges what was answered, published and stored:

* The log is replayed, event by event: each version once and none left out, no less than nothing taken and no more than
  there is, every line and every hold at the best batch that had room. After each transaction nobody waits who fits,
  each is served in turn, and a promise that was broken is placed again.
* Holds last a second, or an hour; they are confirmed, taken over by orders, extended, given up, or left alone. One that
  has run out ended no sooner, and keeps nothing from whoever comes later. The first that ran out ends first, and those
  who wait are served before the next one ends, and before a newcomer. What was held for a line goes to that line, and
  the rest to those who wait. When a batch falls short, holds are broken before promises, the newest first.
* Of what has expired nothing is promised or held. All that is on the shelf goes into quarantine, and later what comes
  back; what was promised or held of it is broken. That a day is over is recorded once. Promises that are pulled forward
  move to a batch that comes sooner, the oldest that fit and all of them, as was answered.
* Every event is published at least once, in order and with one id; and who comes late and reads the stream from its
  beginning hears all of it.
* What was acknowledged is there, what was refused is not. Requests of each kind come again with their keys, and have
  the same outcome; keys that come with another body get nothing done. Every message counts once, though many are sent
  up to five times, and so does every receipt, count, parcel and return. Nothing is left promised to a cancelled order.
  A hold is as was answered, and one that was given up is not there.
* All rows are as the events say: at the end, and at every moment at which a reader looked in between. What was
  committed at such a moment is there at the end, when nothing is over that is not recorded. `allocation check` has to
  agree.

Recovery is the time from the fault, or from the end of one that lasts, until all that was at work then is done and
something newer too. While all slots of the database are used up, work has to go on. A process that was killed is
started again at once, as `allocation run` does it, and has to import its code first. On single servers the service has
no rights but those of which [Operations](operations.md) says that they are enough.

`make chaos` writes this page. A violation is in `var/chaos/violations.txt` as soon as it is found, with the seed and
the command that plays its round again, and the history of the round beside it: `python -m tests.chaos --judge FILE`
judges it once more. `python -m tests.chaos --only NAME --seeds 50` plays one round fifty times.
"""

NOT_PROVED = """\
## What is not proved

* That every instant is safe. Processes are killed at the steps listed here, servers at any moment; what lies between
  two steps is not tried.
* That a power cut is survived: a killed process leaves what it wrote to the kernel. Disks that are full or lie are not
  tried, nor two machines. Clocks jump for two seconds, where there is a
  C compiler.
* That a partition is survived in which each side has a server that takes itself for the primary. Primaries are killed.
* That a command survives which Redis had acknowledged and only its primary had: the senders wait for a replica. Nor one
  that somebody deletes, or a Redis that evicts. Nor what a mail server does: mails are files here.
* That the very schema of an older release is waited for: tables and columns are renamed, which looks the same.
* That a release can be left out: the upgrade is from the one before, as far as the history of this tree has it.
* How it is at midnight: the days that are named are long past or far ahead. Whether a hold ended in time is not judged
  where the clock of the database jumps.
* How it is with more clients than a few, for days, or on other versions, systems and hardware than these.
"""

KEPT = "\n## What the judge sees "
"""What stands from here on was not written by us, and stays."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """What happened in one world."""

    name: str
    versions: str
    results: list[Result] = field(default_factory=list)
    without: str = ""
    """What could not be tried, and why."""


def write(file: Path, chapters: Sequence[Chapter], seconds: float) -> None:
    kept = file.read_text("utf-8").partition(KEPT)[2] if file.exists() else ""
    text = "\n".join([HEAD, *_figures(chapters, seconds), *_tables(chapters), *_violations(chapters), NOT_PROVED])
    file.write_text(text + (KEPT + kept if kept else ""), "utf-8")


def _figures(chapters: Sequence[Chapter], seconds: float) -> Iterator[str]:
    results = [result for chapter in chapters for result in chapter.results]
    versions = sorted({version for chapter in chapters for version in chapter.versions.split(", ")})
    wrong = sum(len(result.violations) for result in results)
    seeds = sorted({result.seed for result in results})
    yield f"* **{len(results)} rounds, {wrong or 'no'} violation{'s' * (wrong != 1)}**, in {seconds / 60:.0f} minutes"
    if seeds:
        yield f"* The seeds were {seeds[0]} to {seeds[-1]}"
    yield (
        f"* {sum(r.answers for r in results):,} requests answered, {sum(r.messages for r in results):,} messages sent, "
        f"{sum(r.events for r in results):,} events heard; a process of the service ended "
        f"{sum(r.kills for r in results):,} times"
    )
    software = f"{', '.join(versions)}, Python {platform.python_version()}"
    busy = os.getloadavg()[2] / (os.cpu_count() or 1)
    yield f"* {datetime.now(UTC):%Y-%m-%d}; {machine()}; {software}"
    yield f"* For each core {busy:.1f} processes were at work or waiting for it, in the last quarter of an hour\n"


def _tables(chapters: Sequence[Chapter]) -> Iterator[str]:
    for chapter in chapters:
        killed = [result for result in chapter.results if result.kind == "kill"]
        broken = [result for result in chapter.results if result.kind == "fault"]
        frozen = [result for result in chapter.results if result.kind == "freeze"]
        yield f"## {chapter.name[0].upper()}{chapter.name[1:]}\n"
        if chapter.without:
            yield f"{chapter.without}\n"
        if killed:
            yield from _table("killed when", killed, _meaning)
        if broken:
            yield from _table("what broke", broken, str)
        if frozen:
            yield "Frozen for 5 s, which is longer than a claim lasts. Recovery counts from the beginning.\n"
            yield from _table("frozen when", frozen, _meaning)
        if held := sum(len(r.recoveries) for r in frozen if r.must_be_refused):
            refused = sum(result.refused for result in frozen)
            yield f"A relay froze {held} times with an event in hand. Waking up, relays were refused {refused} times"
            yield "by the token in Redis, as others had published the stream meanwhile.\n"


def _table(title: str, results: Iterable[Result], meaning: Callable[[str], str]) -> Iterator[str]:
    rounds: dict[str, list[Result]] = defaultdict(list)
    took: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for name in result.names:
            rounds[name].append(result)
        for blow, recoveries in result.recoveries:
            if recoveries:
                took[blow.what].append(max(recoveries.values()))
    yield f"| {title} | rounds | times | violations | recovery p50 | p95 | max |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, same in rounds.items():
        times = " | ".join(f"{percentile(took[name], share):.2f} s" if took[name] else "" for share in (50, 95, 100))
        wrong = sum(len(result.violations) for result in same)
        yield f"| {meaning(name)} | {len(same)} | {len(took[name])} | {wrong} | {times} |"
    yield ""


def _violations(chapters: Sequence[Chapter]) -> Iterator[str]:
    wrong = [result for chapter in chapters for result in chapter.results if result.violations]
    if wrong:
        yield "## Violations\n"
        for result in wrong:
            yield from (f"* {result.what}, seed {result.seed}: {violation}" for violation in result.violations)
        yield ""


def _meaning(name: str) -> str:
    """Steps of one process, each of its next life."""
    steps, _, how = name.removeprefix("frozen at ").partition("; ")
    said = ", then ".join(MEANINGS[step] for step in steps.split(", then "))
    part = {"serve": "API", "relay": "relay", "consume": "consumer"}[PART_OF[steps.partition(",")[0]]]
    return f"{part}: {said}" + (f"; {how}" if how else "")


def percentile(values: Sequence[float], share: int) -> float:
    """The smallest value that so many of a hundred are not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-share * len(ordered) // 100) - 1)]


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = platform.release().partition("-")[0]
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {kernel} {platform.machine()}"
