"""One round: load, something that breaks in the middle of it, once or several times, rest, and judgement."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal

import psycopg
from tests.chaos.harvest import Reader
from tests.chaos.history import Violation
from tests.chaos.load import Load
from tests.chaos.recovery import KINDS, recovery, stands_still
from tests.chaos.stage import Stage
from tests.chaos.steps import PART_OF, SELDOM
from tests.chaos.verdict import disappeared, judge
from tests.chaos.worlds import Fault
from tests.e2e.waiting import eventually

REST = 60.0
"""Seconds. Only a failing round waits that long."""
PUBLISHED_AGAIN = 1_000
"""Events a second: when Redis forgets all of them, each round has more to wait for."""
REACHED = 20.0
TELLS_LATE = {"read-before-telling"}
"""Who is frozen here for longer than its claim lasts has an event in hand, and tells of it late."""


class NotReached(Exception):
    """Nobody came to the step where they were to die."""


@dataclass(frozen=True, slots=True)
class Blow:
    """Something broke, and from this moment on these kinds of work should recover."""

    what: str
    moment: float
    kinds: Sequence[str] = KINDS
    goes_on: bool = False
    """As if nothing had happened."""


Strike = Callable[[Random], Iterator[Sequence[Blow]]]
"""Strikes, says how, and strikes again when all have recovered."""


@dataclass(slots=True)
class Result:
    """`names`: of what breaks, as blows have them. `recoveries`: for each blow, seconds by kind of work. `refused`: how
    often a relay that came late was told so, and `must_be_refused` says that one did come late."""

    kind: Literal["kill", "fault", "freeze"]
    names: Sequence[str]
    seed: int
    must_be_refused: bool = False
    violations: list[Violation] = field(default_factory=list)
    recoveries: list[tuple[Blow, Mapping[str, float]]] = field(default_factory=list)
    kills: int = 0
    refused: int = 0
    events: int = 0
    answers: int = 0
    messages: int = 0
    kept: Path | None = None
    """The history, where it can't be true."""

    @property
    def what(self) -> str:
        return " + ".join(self.names)


def play(stage: Stage, result: Result, strike: Strike) -> Result:
    random = Random(f"{result.what} {result.seed}")
    load = stage.new_load(random.randrange(2**32))
    deaths, refused = stage.parts.all_deaths(), stage.parts.refused()
    blows: list[Blow] = []
    find = partial(stage.findings.add, result.violations)
    load.start()
    reader = Reader(stage.world, load.shared.name)
    try:
        eventually(lambda: len(load.shared.asked) > 20 and len(load.shared.sent) > 5, "there is some load")
        for struck in strike(random):
            blows += struck
            _see_recovery(stage, load, time.time())
    except NotReached as error:
        find([Violation("not tried", str(error))])
    except AssertionError as error:
        find([Violation("not recovered", str(error))])
    if not load.stop(within=REST):
        find([Violation("no answer", f"within {REST:.0f} s a client was not answered")])
    reader.stop()
    nobody_died = result.kind == "fault" and result.what.startswith("postgres")
    if nobody_died:
        _let_listeners_finish(stage, load)
    find(_rest(stage, load))
    if not result.violations:
        load.give_up_holds()
        load.repeat()
        find(_rest(stage, load))
    history = stage.history(load, reader.moments)
    history.nobody_died = nobody_died
    history.clocks_agree = "clock of the database" not in result.what
    try:
        find(judge(history))
    except Exception:  # noqa: BLE001 - so odd that the model does not understand it
        find([Violation("not judged", traceback.format_exc())])
    for blow in blows:
        if blow.goes_on and (still := stands_still(history, blow.moment)):
            find([Violation("stands still", f"{blow.what}: nothing new of {', '.join(still)}")])
    find(stage.books())
    find(Violation("ended by itself", one) for one in stage.parts.faults())
    if result.violations:
        result.kept = stage.findings.keep(history)
    result.recoveries = [(blow, recovery(history, blow.moment, blow.kinds)) for blow in blows]
    result.kills, result.refused = stage.parts.all_deaths() - deaths, stage.parts.refused() - refused
    result.events, result.answers, result.messages = len(history.told), len(history.asked), len(history.sent)
    stage.world.heal()
    return result


def break_with(stage: Stage, what: str, fault: Fault, seed: int, times: int = 1) -> Result:
    def strike(random: Random) -> Iterator[Sequence[Blow]]:
        for _ in range(times):
            yield [Blow(what, fault(random), goes_on=what in stage.world.goes_on)]

    return play(stage, Result("fault", [what], seed), strike)


def kill_at(stage: Stage, *steps: str, seed: int, times: int = 1, after: Fault | None = None) -> Result:
    """A process is killed at each step, one after the other if they are steps of one part; after another fault."""
    by_part = {PART_OF[step]: [one for one in steps if PART_OF[one] == PART_OF[step]] for step in steps}
    names = {part: ", then ".join(mine) for part, mine in by_part.items()}

    def strike(random: Random) -> Iterator[Sequence[Blow]]:
        for _ in range(times):
            before = {part: len(stage.parts.deaths(part)) for part in by_part}
            for part, mine in by_part.items():
                most = 4 if len(mine) == 1 and not SELDOM & {*mine} else 1  # who recovers may pass it once
                stage.parts.order(part, *(f"{step} {random.randint(1, most)} SIGKILL" for step in mine))
            if after:
                after(random)
            yield [
                Blow(names[part], _await_deaths(stage, part, before[part], mine), (part,))
                for part, mine in by_part.items()
            ]

    return play(stage, Result("kill", list(names.values()), seed), strike)


def freeze_at(
    stage: Stage, step: str, seed: int, *, times: int = 1, seconds: float = 5.0, meanwhile: Fault | None = None
) -> Result:
    """A process does nothing for longer than any lease, and then goes on as if nothing had happened."""
    part = PART_OF[step]
    what = f"frozen at {step}" + ("; its connections are ended" if meanwhile else "")

    def strike(random: Random) -> Iterator[Sequence[Blow]]:
        for _ in range(times):
            before = len(stage.parts.reached(part))
            stage.parts.order(part, f"{step} {random.randint(1, 4)} SIGSTOP")
            moment = _await(stage.parts.reached, stage, part, before + 1, step)
            if meanwhile:
                meanwhile(random)
            time.sleep(seconds)
            stage.parts.wake()
            yield [Blow(what, moment)]

    return play(stage, Result("freeze", [what], seed, must_be_refused=step in TELLS_LATE), strike)


def _await_deaths(stage: Stage, part: str, before: int, steps: Sequence[str]) -> float:
    """The moment of the last."""
    moments = [_await(stage.parts.deaths, stage, part, before + number, step) for number, step in enumerate(steps, 1)]
    return moments[-1]


def _await(moments: Callable[[str], list[float]], stage: Stage, part: str, number: int, step: str) -> float:
    """The moment with this number, once there are so many."""
    deadline = time.monotonic() + REACHED
    while len(found := moments(part)) < number:
        if time.monotonic() > deadline:
            stage.parts.order(part)
            raise NotReached(f"nobody came to {step} within {REACHED:.0f} s")
        time.sleep(0.005)
    return found[number - 1]


def _see_recovery(stage: Stage, load: Load, moment: float) -> None:
    """Until all that was recorded so far is told, and work of each kind that came after the fault is done."""
    shared = load.shared
    logged = eventually(lambda: stage.logged(load), "the database answers", REST)

    def recovered() -> bool:
        told = stage.subscriber.heard()
        sent = {one.id for one in shared.sent[:] if one.sent_at > moment}
        newer = [event for event in told if event.heard > moment]
        return (
            any(one.begun > moment for one in shared.asked[:])
            and any(event.data.get("orderid", event.data.get("ref")) in sent for event in newer)
            and logged <= {(event.sku, event.version) for event in told}
        )

    patience = REST + stage.events_so_far() / PUBLISHED_AGAIN
    eventually(recovered, "new requests and messages are answered, handled and told of", patience)


def _let_listeners_finish(stage: Stage, load: Load) -> None:
    """What was said over pub/sub may still be with a consumer, where only the verdict misses it."""
    deadline = time.monotonic() + REST
    while time.monotonic() < deadline:
        with suppress(psycopg.Error):
            history = stage.history(load)
            history.nobody_died = True
            if not any(disappeared(history)):
                return
        time.sleep(0.2)


def _rest(stage: Stage, load: Load) -> Iterator[Violation]:
    deadline = time.monotonic() + REST
    while left := stage.unfinished(load):
        if time.monotonic() > deadline:
            yield Violation("no rest", f"after {REST:.0f} s: {left}")
            return
        time.sleep(0.05)
