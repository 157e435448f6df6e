"""Which rounds are played in which world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.briefly import Briefly
from tests.chaos.rounds import TELLS_LATE, Result, break_with, freeze_at, kill_at
from tests.chaos.single import OUR_GROUP, Single, Twins
from tests.chaos.stage import Stage
from tests.chaos.steps import CONSUME, PARTS, RELAY
from tests.chaos.upgrade import Upgraded, upgrade
from tests.chaos.worlds import Fault, ReplicatedPostgres, SentinelRedis, World

WORLDS: dict[str, Callable[[Path], World]] = {
    "single": Single,
    "standby": ReplicatedPostgres,
    "sentinel": SentinelRedis,
    "twins": Twins,
    "upgrade": Upgraded,
}
SHORT = Briefly

KILLS = 4
"""In a round, one after the other, each when all have recovered from the last."""

KILLED_AGAIN = [  # while they recover
    ("committed-before-answer", "command-received"),
    ("told-before-mark", "claim-committed"),
    ("inbound-committed-before-ack", "pending-read"),
    ("inbound-read", "pending-read"),
]
Round = tuple[str, Callable[[int], Result]]


def rounds(stage: Stage) -> Iterator[Round]:
    """What happens in each, and how to play it with a seed."""
    world = stage.world
    faults = world.faults()
    if isinstance(world, Twins):
        away, ended = "postgres: connections refused for 10 s", faults["postgres: all backends terminated"]
        yield away, lambda seed: break_with(stage, away, faults[away], seed)
        yield from (_killed(stage, step, times=2) for step in (*RELAY, *CONSUME))
        yield from (_frozen(stage, step, times=3) for step in TELLS_LATE)
        yield from (_frozen(stage, step) for step in ("told-before-mark", "mark-written-before-commit"))
        for step in ("inbound-read", "inbound-written-before-commit", "inbound-committed-before-ack"):
            yield _frozen(stage, step, meanwhile=ended)
        return
    if isinstance(world, Upgraded):
        if world.release_before:
            yield "upgrade", lambda seed: upgrade(stage, world, seed)
        return
    times = 2 if isinstance(world, Single) else 1
    for what, fault in faults.items():
        yield what, lambda seed, what=what, fault=fault: break_with(stage, what, fault, seed, times)  # type: ignore[misc]
    if isinstance(world, Single):
        yield from (_killed(stage, step, times=KILLS) for steps in PARTS.values() for step in steps)
        yield from (_killed(stage, *steps, times=2) for steps in KILLED_AGAIN)
        forget = faults["redis: events forgotten"]
        yield "told-again", lambda seed: kill_at(stage, "told-again", seed=seed, times=2, after=forget)
        meddle = faults[OUR_GROUP]
        yield (
            f"{OUR_GROUP}, and killed",
            lambda seed: kill_at(stage, "inbound-read", seed=seed, times=KILLS, after=meddle),
        )
        yield _frozen(stage, "written-before-commit")


def short_rounds(stage: Stage) -> Iterator[Round]:
    """A step of each part at once, and the worst that can befall the servers."""
    yield _killed(stage, "commit-sent-before-reply", "told-before-mark", "inbound-committed-before-ack", times=1)
    for what, fault in stage.world.faults().items():
        yield what, lambda seed, what=what, fault=fault: break_with(stage, what, fault, seed)  # type: ignore[misc]


def _frozen(stage: Stage, step: str, times: int = 1, meanwhile: Fault | None = None) -> Round:
    return f"frozen at {step}", lambda seed: freeze_at(stage, step, seed, times=times, meanwhile=meanwhile)


def _killed(stage: Stage, *steps: str, times: int) -> Round:
    return " + ".join(steps), lambda seed: kill_at(stage, *steps, seed=seed, times=times)
