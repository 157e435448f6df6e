"""One message in, one transaction out: the bus on a bounded context of three lines, in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, make_dataclass, replace
from datetime import timedelta
from itertools import count
from threading import Event

import pytest

from embedded.waiting import wait_for
from messaging.bus import MessageBus
from messaging.correlation import WORKING_ON
from messaging.envelope import Metadata, NewEvent, Outcome, Recorded, Request
from messaging.errors import (
    ConcurrencyConflict,
    ConflictRetriesExhausted,
    Disconnected,
    MessageIdReused,
    OutcomeUnknown,
    RequestInProgress,
    RoutingError,
    Unavailable,
)
from messaging.observation import HandlingEnded, Observer
from messaging.outbox.effects import Effect
from messaging.retry import Retry
from messaging.routes import Routes
from messaging.testing import Memory, MemoryTransaction


@dataclass(frozen=True)
class Say:
    word: str


@dataclass(frozen=True)
class Said:
    word: str


@dataclass(frozen=True)
class Echoed:
    word: str


class TooLoudError(Exception):
    pass


class Talk(MemoryTransaction):
    """A unit of work whose one aggregate is a conversation."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self.said: list[object] = []
        self.locked: list[object] = []
        self._collected = 0

    def lock(self, commands: Sequence[object], streams: Collection[str] = (), *, wait: bool) -> None:
        if wait:
            self.locked += commands

    def say(self, event: object) -> None:
        self.said.append(event)

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        before = len(self.history("talk"))
        while self._collected < len(self.said):
            self._collected += 1
            yield NewEvent("talk", before + self._collected, self.said[self._collected - 1])

    def discard_new_events(self) -> None:
        del self.said[self._collected :]


def say(cmd: Say, uow: Talk) -> str:
    if cmd.word.isupper():
        raise TooLoudError(cmd.word)
    uow.say(Said(cmd.word))
    return f"said {cmd.word}"


def echo(event: Said, uow: Talk) -> None:
    uow.say(Echoed(event.word))


class World:
    """A bus, and faults to come: each is raised once, at a commit."""

    def __init__(self, handler: Callable[[Say, Talk], object] = say) -> None:
        self.memory = Memory()
        self.faults: list[Exception] = []
        self.transactions = 0
        self.waits: list[float] = []
        table: Routes[Talk] = Routes()
        table.command(Say, handler)
        table.event(Said, echo)
        table.effect(Said, Effect("shout", lambda _: {}))
        self.bus = MessageBus(table, self.unit_of_work, TooLoudError, Retry(sleep=self.waits.append))

    @contextmanager
    def unit_of_work(self) -> Iterator[Talk]:
        self.transactions += 1
        talk = Talk(self.memory)
        yield talk

    def log(self) -> list[object]:
        return [recorded.event for recorded in self.memory.log["talk"]]


@dataclass(frozen=True)
class Asked:
    what: str
    how_often: int = 1


def test_a_field_that_a_later_release_adds_does_not_make_old_messages_look_new() -> None:
    later = make_dataclass("Asked", [("what", str), ("how_often", int, 1), ("how_loud", int, 0)], frozen=True)

    fingerprint = World().bus.fingerprint

    assert fingerprint(later("x")) == fingerprint(Asked("x"))
    assert fingerprint(later("x", how_loud=1)) != fingerprint(Asked("x"))
    assert fingerprint(Asked("x")) != fingerprint(Asked("y"))


def failing(*faults: Exception, handler: Callable[[Say, Talk], object] = say) -> tuple[World, list[Exception]]:
    left = list(faults)

    def say_if_possible(cmd: Say, uow: Talk) -> object:
        answer = handler(cmd, uow)
        if left:
            raise left.pop(0)
        return answer

    return World(say_if_possible), left


def test_answers_with_what_the_handler_returned() -> None:
    assert World().bus.handle(Say("hello")) == "said hello"


def test_a_handler_gets_the_command_as_the_table_translates_it() -> None:
    world = World()
    world.bus.routes.translate = lambda cmd, uow: Say(f"{cmd.word} {len(uow.said)}")  # type: ignore[attr-defined]  # it is Say

    assert world.bus.handle(Say("hello")) == "said hello 0"


def test_tells_those_who_ask_whether_anything_changed() -> None:
    bus = World().bus

    outcomes = [bus.outcome(Say("hello"), message_id="m1") for _ in range(2)]
    refused = bus.outcome(Say("HELLO"))

    assert [(outcome.result, outcome.changed) for outcome in outcomes] == [("said hello", True), ("said hello", False)]
    assert isinstance(refused.refusal, TooLoudError)
    assert not refused.changed


def test_commits_events_of_policies_with_those_that_caused_them() -> None:
    world = World()

    world.bus.handle(Say("hello"))

    assert world.log() == [Said("hello"), Echoed("hello")]
    assert world.transactions == 1


def test_posts_a_row_for_each_effect() -> None:
    world = World()

    world.bus.handle(Say("hello"))

    assert [(one.effect, one.recorded.event) for one in world.memory.outbox] == [("shout", Said("hello"))]


def test_a_refusal_reaches_the_caller_and_changes_nothing() -> None:
    world = World()

    with pytest.raises(TooLoudError):
        world.bus.handle(Say("HELLO"))

    assert world.memory == Memory(lock=world.memory.lock)


def test_a_fault_reaches_the_caller_and_changes_nothing() -> None:
    world, _ = failing(ZeroDivisionError())

    with pytest.raises(ZeroDivisionError):
        world.bus.handle(Say("hello"))

    assert world.log() == []


def test_a_refusal_after_a_change_takes_the_change_back() -> None:
    world, _ = failing(TooLoudError())

    first, second = world.bus.handle_together([Request(Say("hello")), Request(Say("again"))])

    assert isinstance(first.refusal, TooLoudError)
    assert second == Outcome("said again")
    assert world.log() == [Said("again"), Echoed("again")]


@pytest.mark.parametrize("fault", [ConcurrencyConflict("too slow"), Disconnected("gone"), RequestInProgress("m1")])
def test_runs_the_whole_unit_of_work_again_after(fault: Exception) -> None:
    world, _ = failing(fault, fault)

    assert world.bus.handle(Say("hello")) == "said hello"

    assert world.log() == [Said("hello"), Echoed("hello")], "events come from the winning attempt only"
    assert world.transactions == 3
    assert len(world.waits) == 2


def noting_what_is_locked(*faults: Exception) -> tuple[World, list[list[object]]]:
    locked: list[list[object]] = []

    def say_and_note(cmd: Say, uow: Talk) -> str:
        locked.append(list(uow.locked))
        return say(cmd, uow)

    world, _ = failing(*faults, handler=say_and_note)
    world.bus.routes.streams = lambda cmd: [cmd.word[0]]  # type: ignore[attr-defined]  # it is Say
    return world, locked


def test_who_has_lost_locks_what_it_will_write_before_anything_is_read() -> None:
    world, locked = noting_what_is_locked(ConcurrencyConflict("too slow"))

    world.bus.handle(Say("hello"))

    assert locked == [[], [Say("hello")]]


def test_so_do_those_who_come_to_the_same_stream_a_moment_later() -> None:
    world, locked = noting_what_is_locked(ConcurrencyConflict("too slow"))
    world.bus.handle(Say("hello"))
    del locked[:]

    world.bus.handle(Say("hi"))
    world.bus.handle(Say("goodbye"))

    assert locked == [[Say("hi")], []]


def unanswered(memory: Memory, committed: bool, meanwhile: Callable[[], object] = lambda: None) -> MessageBus[Talk]:
    """A bus whose first COMMIT has no answer."""
    commits = count()

    class Unanswered(Talk):
        def commit(self) -> None:
            if next(commits):
                super().commit()
                return
            if committed:
                super().commit()
            meanwhile()
            raise OutcomeUnknown("cut while committing")

    return replace(World().bus, unit_of_work=lambda: nullcontext(Unanswered(memory)))


def test_runs_again_when_it_turns_out_that_it_was_not_committed() -> None:
    world = World()

    assert unanswered(world.memory, committed=False).handle(Say("hello")) == "said hello"

    assert world.log() == [Said("hello"), Echoed("hello")]


def test_does_not_run_again_when_it_turns_out_that_it_was_committed() -> None:
    world = World()

    [outcome] = unanswered(world.memory, committed=True).handle_together([Request(Say("hello"))])

    assert (outcome.result, outcome.changed) == ("said hello", True)
    assert world.log() == [Said("hello"), Echoed("hello")]


def test_what_another_committed_meanwhile_is_not_taken_for_ones_own() -> None:
    world = World()

    def meanwhile() -> None:
        world.bus.handle(Say("hello"))

    assert unanswered(world.memory, committed=False, meanwhile=meanwhile).handle(Say("hello")) == "said hello"

    assert world.log() == [Said("hello"), Echoed("hello")] * 2


def test_a_fault_after_a_commit_without_an_answer_does_not_have_the_members_of_a_group_run_again() -> None:
    world = World()
    bus = unanswered(world.memory, committed=True)
    units = iter([bus.unit_of_work()])

    def one_and_then_a_fault() -> AbstractContextManager[Talk]:
        try:
            return next(units)
        except StopIteration:
            raise ZeroDivisionError("ours") from None

    with pytest.raises(OutcomeUnknown, match="a commit had no answer"):
        replace(bus, unit_of_work=one_and_then_a_fault).handle_together([Request(Say("a")), Request(Say("b"))])

    assert world.log() == [Said("a"), Echoed("a"), Said("b"), Echoed("b")]


def test_does_not_say_what_it_does_not_know() -> None:
    world, _ = failing(*[OutcomeUnknown("cut while committing")] * 10_000)
    bus = replace(world.bus, retry=Retry(outage_deadline=0.02, longest_wait=0.001))

    with pytest.raises(Unavailable, match=r"given up after \d+ (try|tries): cut while committing"):
        bus.handle(Say("hello"))


def test_gives_up_in_the_end_and_says_so() -> None:
    world, _ = failing(*[ConcurrencyConflict("too slow")] * 10_000)
    bus = MessageBus(
        world.bus.routes, world.unit_of_work, TooLoudError, Retry(0.05, first_wait=0.001, longest_wait=0.001)
    )

    with pytest.raises(Unavailable, match=r"given up after \d+ (try|tries): too slow"):
        bus.handle(Say("hello"))


@pytest.mark.parametrize(
    ("fault", "retry", "kind"),
    [
        (ConcurrencyConflict("too slow"), Retry(conflict_deadline=0, outage_deadline=9), ConflictRetriesExhausted),
        (Disconnected("gone"), Retry(conflict_deadline=9, outage_deadline=0), Unavailable),
    ],
)
def test_a_conflict_and_an_outage_have_deadlines_and_names_of_their_own(
    fault: Exception, retry: Retry, kind: type[Exception]
) -> None:
    world, _ = failing(fault)
    bus = MessageBus(world.bus.routes, world.unit_of_work, TooLoudError, retry)

    with pytest.raises(kind, match="given up after 1 try: ") as given_up:
        bus.handle(Say("hello"))
    assert type(given_up.value) is kind


def test_waits_at_random_at_first_a_little_and_never_long() -> None:
    waits: list[float] = []
    world, _ = failing(*[ConcurrencyConflict("too slow")] * 40)
    retry = Retry(first_wait=0.001, longest_wait=0.004, sleep=waits.append)

    MessageBus(world.bus.routes, world.unit_of_work, TooLoudError, retry).handle(Say("hello"))

    assert all(wait <= limit for wait, limit in zip(waits, [0.001, 0.002, *[0.004] * 38], strict=True))
    assert len(set(waits)) > 30, "nobody meets the same ones again"


def test_a_message_id_makes_a_command_take_effect_once() -> None:
    world = World()

    answers = [world.bus.handle(Say("hello"), message_id="m1") for _ in range(3)]

    assert answers == ["said hello"] * 3
    assert world.log() == [Said("hello"), Echoed("hello")]


def test_a_refusal_is_remembered_too() -> None:
    world = World()

    for _ in range(2):
        with pytest.raises(TooLoudError, match="HELLO"):
            world.bus.handle(Say("HELLO"), message_id="m1")

    assert list(world.memory.inbox) == ["m1"]


def test_a_message_id_with_another_body_is_refused() -> None:
    world = World()
    world.bus.handle(Say("hello"), message_id="m1")

    with pytest.raises(MessageIdReused, match="m1"):
        world.bus.handle(Say("goodbye"), message_id="m1")


def test_handles_many_together_each_with_its_own_outcome() -> None:
    world = World()

    outcomes = world.bus.handle_together([Request(Say("one")), Request(Say("TWO")), Request(Say("three"))])

    assert [outcome.result for outcome in outcomes] == ["said one", None, "said three"]
    assert isinstance(outcomes[1].refusal, TooLoudError)
    assert world.transactions == 1
    assert world.log() == [Said("one"), Echoed("one"), Said("three"), Echoed("three")]


def test_a_duplicate_among_many_does_not_hold_up_the_others() -> None:
    world = World()
    world.bus.handle(Say("one"), message_id="m1")

    outcomes = world.bus.handle_together([Request(Say("one"), message_id="m1"), Request(Say("two"), message_id="m2")])

    assert [outcome.result for outcome in outcomes] == ["said one", "said two"]
    assert world.log() == [Said("one"), Echoed("one"), Said("two"), Echoed("two")]


def test_all_that_follows_shares_the_correlation_id_and_names_its_cause() -> None:
    world = World()
    request = Metadata.first("test", correlation_id="order 17")

    world.bus.handle(Say("hello"), request)

    said, echoed = world.memory.log["talk"]
    assert said.metadata.correlation_id == echoed.metadata.correlation_id == "order 17"
    assert said.metadata.causation_id == request.id
    assert echoed.metadata.causation_id == said.metadata.id
    assert said.metadata.source == echoed.metadata.source == "test"
    assert said.metadata.time.utcoffset() == request.time.utcoffset() == timedelta(0)


def test_what_comes_from_nowhere_begins_a_correlation_of_its_own() -> None:
    world = World()

    world.bus.handle(Say("one"))
    world.bus.handle(Say("two"))

    one, _, two, _ = (recorded.metadata for recorded in world.memory.log["talk"])
    assert one.source == "internal"
    assert one.causation_id == one.correlation_id != two.correlation_id


def test_says_of_each_whether_anything_has_happened() -> None:
    world = World()
    world.bus.handle(Say("one"), message_id="m1")

    outcomes = world.bus.handle_together(
        [Request(Say("one"), message_id="m1"), Request(Say("two")), Request(Say("NO"))]
    )

    assert [outcome.changed for outcome in outcomes] == [False, True, False]


def test_all_policies_are_followed_whenever_they_were_named() -> None:
    world, heard = World(), list[str]()

    world.bus.routes.event(Said, lambda event, _: heard.append(event.word))
    world.bus.handle(Say("hello"))

    assert world.log() == [Said("hello"), Echoed("hello")]
    assert heard == ["hello"]


def test_commands_that_wait_at_the_same_time_share_a_transaction_whatever_their_streams() -> None:
    entered, door = Event(), Event()

    def say_slowly(cmd: Say, uow: Talk) -> str:
        if cmd.word == "first":
            entered.set()
            assert door.wait(10)
        return say(cmd, uow)

    world = World()
    table: Routes[Talk] = Routes(streams=lambda cmd: [cmd.word])  # type: ignore[attr-defined]  # it is Say
    table.command(Say, say_slowly)
    bus = MessageBus(table, world.unit_of_work, TooLoudError)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(bus.handle, Say("first"))]
        assert entered.wait(10)
        answers += [pool.submit(bus.handle, Say(word)) for word in ("second", "third")]
        assert wait_for(lambda: bus._coalescer.waiting == 2, within=10), "nobody waits"
        door.set()

    assert [answer.result() for answer in answers] == ["said first", "said second", "said third"]
    assert world.transactions == 2


@pytest.mark.parametrize("later", [RequestInProgress("m1"), MessageIdReused("m1")])
def test_whose_message_id_is_in_its_way_does_not_delay_those_who_came_with_it(later: Exception) -> None:
    """Nothing of it has happened yet, so the transaction of the others goes on."""
    entered, door = Event(), Event()
    recalls: list[Exception] = [later]

    class Busy(Talk):
        def recall(self, message_id: str) -> tuple[str, Outcome] | None:
            if recalls:
                raise recalls.pop()
            return super().recall(message_id)

    def say_slowly(cmd: Say, uow: Talk) -> str:
        if cmd.word == "first":
            entered.set()
            assert door.wait(10)
        return say(cmd, uow)

    world = World()
    table: Routes[Talk] = Routes(streams=lambda _: ["here"])
    table.command(Say, say_slowly)
    transactions: list[Busy] = []

    @contextmanager
    def unit_of_work() -> Iterator[Talk]:
        transactions.append(Busy(world.memory))
        yield transactions[-1]

    bus = MessageBus(table, unit_of_work, TooLoudError)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(bus.handle, Say("first"))
        assert entered.wait(10)
        other = pool.submit(bus.handle, Say("other"))
        busy = pool.submit(bus.outcome, Say("busy"), None, "m1")
        assert wait_for(lambda: bus._coalescer.waiting == 2, within=10), "nobody waits"
        door.set()

    assert (first.result(), other.result()) == ("said first", "said other")
    if isinstance(later, RequestInProgress):
        assert busy.result().result == "said busy"
        assert transactions[2].said == [Said("busy")], "it was asked again, alone"
    else:
        assert busy.result().refusal is later
        assert len(transactions) == 2


class Clumsy(Observer):
    """Fails before or after what it looks at."""

    def __init__(self, before: bool) -> None:
        self.before = before

    def handling(self, requests: Sequence[Request]) -> HandlingEnded:
        def end(ended: list[Outcome] | BaseException) -> None:
            raise OSError("no space for numbers")

        if self.before:
            raise OSError("no space for numbers")
        return end

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        raise OSError("no space for numbers")


def test_what_turns_out_to_be_committed_is_seen_by_observers() -> None:
    world, observer = World(), Seeing()

    replace(unanswered(world.memory, committed=True), observer=observer).handle(Say("hello"))

    assert observer.seen == [Say("hello"), Said("hello"), Echoed("hello")]


def test_a_preview_has_outcomes_and_events_and_leaves_nothing() -> None:
    world, worked_on = World(), WORKING_ON.get()
    world.bus.handle(Say("before"))

    with world.bus.preview() as preview:
        first, happened = preview([Request(Say("hello"), message_id="m1"), Request(Say("LOUD"))])
        second, _ = preview([Request(Say("again"))])

    assert [outcome.result for outcome in (*first, *second)] == ["said hello", None, "said again"]
    assert isinstance(first[1].refusal, TooLoudError)
    assert [one.event for one in happened] == [Said("hello"), Echoed("hello")]
    assert world.log() == [Said("before"), Echoed("before")]
    assert world.memory.inbox == {}
    assert WORKING_ON.get() == worked_on


class Seeing(Observer):
    def __init__(self) -> None:
        self.seen: list[object] = []

    def handling(self, requests: Sequence[Request]) -> None:
        self.seen += [request.command for request in requests]

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        self.seen += [one.event for one in recorded]


def test_a_dry_run_has_outcome_and_events_and_nobody_else_hears_of_it() -> None:
    world, observer = World(), Seeing()
    bus = replace(world.bus, observer=observer)

    said, refused = bus.dry_run(Say("hello")), bus.dry_run(Say("LOUD"))

    assert (said.unwrap(), said.changed) == ("said hello", True)
    assert [one.event for one in said.events] == [Said("hello"), Echoed("hello")]
    assert isinstance(refused.refusal, TooLoudError)
    assert (refused.changed, refused.events) == (False, [])
    assert observer.seen == []
    assert (world.log(), world.memory.outbox, world.memory.inbox) == ([], [], {})


@pytest.mark.parametrize(("faults", "deadline", "tries"), [(1, 60.0, 2), (99, 0.01, None)])
def test_a_dry_run_is_tried_again_when_the_database_was_gone(faults: int, deadline: float, tries: int | None) -> None:
    world = World()
    left = [Disconnected("gone")] * faults

    @contextmanager
    def unit_of_work() -> Iterator[Talk]:
        with world.unit_of_work() as talk:
            if left:
                raise left.pop()
            yield talk

    bus = replace(world.bus, unit_of_work=unit_of_work, retry=Retry(outage_deadline=deadline, first_wait=0.0001))
    if tries:
        assert bus.dry_run(Say("hello")).result == "said hello"
        assert world.transactions == tries
    else:
        with pytest.raises(Unavailable):
            bus.dry_run(Say("hello"))


@pytest.mark.parametrize("before", [True, False])
def test_an_observer_that_fails_is_nobodys_concern(before: bool, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    bus = replace(world.bus, observer=Clumsy(before))

    assert bus.handle(Say("hello")) == "said hello"
    with pytest.raises(TooLoudError):
        bus.handle(Say("HELLO"))

    assert world.log() == [Said("hello"), Echoed("hello")], "and all of it once"
    assert "an observer failed" in caplog.messages


@pytest.mark.parametrize("before", [True, False])
def test_a_fault_is_raised_as_it_was_whatever_an_observer_makes_of_it(before: bool) -> None:
    world, _ = failing(ZeroDivisionError("ours"))

    with pytest.raises(ZeroDivisionError, match="ours"):
        replace(world.bus, observer=Clumsy(before)).handle(Say("hello"))


def test_an_outage_after_conflicts_has_the_time_of_an_outage() -> None:
    """Else, after a second of conflicts, nobody would look whether an unanswered COMMIT was one."""
    clock = [0.0]
    left: list[Exception] = [ConcurrencyConflict("faster"), ConcurrencyConflict("faster"), OutcomeUnknown("cut")]

    def attempt() -> str:
        clock[0] += 0.6
        if left:
            raise left.pop(0)
        return "done"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tenacity.time.monotonic", lambda: clock[0])
        assert Retry(sleep=lambda _: None)(attempt) == "done"


def test_a_command_without_a_handler_is_an_incomplete_table() -> None:
    with pytest.raises(RoutingError, match="Said has no handler"):
        World().bus.handle(Said("hello"))
