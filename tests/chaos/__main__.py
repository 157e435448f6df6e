"""`python -m tests.chaos`: break everything that can break, many times, and see that nothing is lost or sold twice."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
from tests.chaos import report
from tests.chaos.findings import Findings, kept
from tests.chaos.history import Violation
from tests.chaos.plan import SHORT, WORLDS, Round, rounds, short_rounds
from tests.chaos.rounds import Result
from tests.chaos.stage import Stage, stage
from tests.chaos.verdict import judge


@click.command()
@click.option("--seeds", default=2, show_default=True, help="How often each thing is broken, each time otherwise.")
@click.option("--first-seed", default=1, show_default=True)
@click.option("--short", is_flag=True, help="The least that says something, in half a minute.")
@click.option("--world", "kinds", type=click.Choice(list(WORLDS)), multiple=True, help="Only this one; repeatable.")
@click.option(
    "--only", "wanted", multiple=True, help="Only what is called so, or else has this in its name; repeatable."
)
@click.option("--judge", "old", type=click.Path(exists=True, path_type=Path), help="Judge this history, and stop.")
@click.option("--report", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write it there, in Markdown.")
def main(
    *,
    seeds: int,
    first_seed: int,
    short: bool,
    kinds: Sequence[str],
    wanted: Sequence[str],
    old: Path | None,
    file: Path | None,
) -> None:
    """Kill, cut, freeze and restart everything, and judge what is left. Exit 1 when anything is wrong.

    Violations are in var/chaos/violations.txt as soon as they are found, each with the command that plays its round
    again.
    """
    if old:
        sys.exit(judge_again(old))
    begun = time.monotonic()
    findings = Findings()
    plan = short_rounds if short else rounds
    chapters: list[report.Chapter] = []
    for kind, make in {"short": SHORT}.items() if short else [(kind, WORLDS[kind]) for kind in kinds or WORLDS]:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder, closing(make(Path(folder))) as world:
            click.echo(f"\n{world.name}: {world.versions}")
            chapters.append(report.Chapter(world.name, world.versions, without=world.without))
            with stage(world, Path(folder), findings) as ready:
                for seed in range(first_seed, first_seed + (1 if short else seeds)):
                    for what, play in chosen(list(plan(ready)), wanted):
                        findings.begin(kind, what, seed)
                        chapters[-1].results.append(told(play(seed), ready))
                        if file:  # one who has seen enough may stop it
                            report.write(file, chapters, time.monotonic() - begun)
            require_refusals(chapters[-1].results, findings)
    if file:
        report.write(file, chapters, time.monotonic() - begun)
    everything = [result for chapter in chapters for result in chapter.results]
    wrong = sum(len(result.violations) for result in everything)
    if wrong:
        click.echo(f"\nAll of it, with the command that plays a round again: {findings.file}")
    click.echo(f"\n{len(everything)} rounds in {time.monotonic() - begun:.0f} s: {wrong or 'no'} violations")
    sys.exit(1 if wrong else 0)


def chosen(plan: Sequence[Round], wanted: Sequence[str]) -> Sequence[Round]:
    parts = {*wanted} - {what for what, _ in plan}
    return [one for one in plan if not wanted or one[0] in wanted or any(part in one[0] for part in parts)]


def judge_again(file: Path) -> int:
    status = 0
    for violation in judge(kept(file)):
        click.echo(violation)
        status = 1
    return status


def require_refusals(results: Sequence[Result], findings: Findings) -> None:
    """That those who tell late are refused has to be seen, not only tried."""
    late = [result for result in results if result.must_be_refused]
    if late and not any(result.refused for result in late):
        click.echo("  VIOLATION: whoever told late was never refused")
        wrong = Violation("not refused", "a relay that woke up late was not told so, in any round")
        findings.add(late[0].violations, [wrong])


def told(result: Result, ready: Stage) -> Result:
    worst: dict[str, float] = {}
    for _, recoveries in result.recoveries:
        for kind, seconds in recoveries.items():
            worst[kind] = max(seconds, worst.get(kind, 0.0))
    took = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in worst.items()) or "no recovery seen"
    verdict = f"{len(result.violations)} VIOLATIONS" if result.violations else "ok"
    seen = f"{result.events:4} events, {result.answers:4} answers, {result.messages:4} messages, {result.kills:2} kills"
    click.echo(f"  {result.what:<60} {result.seed:3}  {took:<44}  {seen}  {verdict}")
    if result.refused:
        click.echo(f"      refused, because it came late: {result.refused} times")
    for violation in result.violations:
        click.echo(f"      {violation}")
    if result.violations:
        click.echo(f"      its history: {result.kept}")
        for line in ready.parts.last_words():
            click.echo(f"      {line}")
    return result


if __name__ == "__main__":
    main()
