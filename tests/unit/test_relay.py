"""Effects: at least once, in order within a stream, each on its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from threading import Barrier, Event, Lock, Thread, current_thread

import pytest

from messaging.envelope import Delivery, Metadata, Recorded
from messaging.errors import ClaimLost, Disconnected, NotAllowed, Unavailable, UnreadableMessage
from messaging.outbox.claims import Claim, OutboxMessage
from messaging.outbox.delivery import RetryPolicy
from messaging.outbox.effects import Effect, one_by_one
from messaging.outbox.relay import Relay
from messaging.routes import Routes
from messaging.testing import Memory, MemoryDeliveries, Waiting


@dataclass(frozen=True)
class Said:
    word: str


@dataclass
class Tell:
    """An effect that may fail: `on` is called before a word is told."""

    name: str
    on: Callable[[str], None] = lambda _: None
    told: list[str] = field(default_factory=list)
    deliveries: list[Delivery[Said]] = field(default_factory=list)
    workers: int = 1

    @property
    def effect(self) -> Effect[Said]:
        return Effect(self.name, one_by_one(self), workers=self.workers)

    def __call__(self, delivery: Delivery[Said]) -> None:
        self.on(delivery.recorded.event.word)
        self.told.append(delivery.recorded.event.word)
        self.deliveries.append(delivery)


def memory_with(effect: str, **words: list[str]) -> Memory:
    memory = Memory()
    for stream, said in words.items():
        for version, word in enumerate(said, start=1):
            memory.outbox.append(Waiting(Recorded(stream, version, Said(word), Metadata.first("test")), effect))
    return memory


def relay_for(memory: Memory, *effects: Tell) -> Relay:
    table: Routes[object] = Routes()
    table.effect(Said, *(one.effect for one in effects))
    return Relay(table, MemoryDeliveries(memory), RetryPolicy(most_faults=3))


def test_delivers_in_the_order_of_the_stream() -> None:
    tell = Tell("tell")
    memory = memory_with("tell", a=["one", "two", "three"])

    assert relay_for(memory, tell).deliver("tell") == 3

    assert tell.told == ["one", "two", "three"]
    assert memory.outbox == []


def test_what_fails_holds_back_its_stream_and_no_other() -> None:
    def fail_on_two(word: str) -> None:
        if word == "two":
            raise Unavailable("not now")

    tell = Tell("tell", fail_on_two)
    memory = memory_with("tell", a=["one", "two", "three"], b=["uno", "due"])

    relay_for(memory, tell).deliver("tell")

    assert tell.told == ["one", "uno", "due"]
    assert [waiting.recorded.version for waiting in memory.outbox] == [2, 3]


def test_is_published_again_once_the_surroundings_are_back() -> None:
    faults = [Unavailable("not now")] * 50

    def fail_for_long(_: str) -> None:
        if faults:
            raise faults.pop()

    tell = Tell("tell", fail_for_long)
    relay = relay_for(memory_with("tell", a=["one", "two"]), tell)

    for _ in range(51):
        relay.deliver("tell")

    assert tell.told == ["one", "two"]


def test_what_keeps_failing_for_its_own_sake_is_dead_after_some_attempts_and_later_ones_wait() -> None:
    def fail(_: str) -> None:
        raise ValueError("can't be told")

    memory = memory_with("tell", a=["one", "two"])
    relay = relay_for(memory, Tell("tell", fail))

    for _ in range(5):
        relay.deliver("tell")

    first, second = memory.outbox
    assert (first.dead, first.attempts, first.reason) == (True, 3, 'ValueError("can\'t be told")')
    assert (second.dead, second.attempts) == (False, 0)


def test_what_no_effect_is_known_for_is_dead_at_once() -> None:
    memory = memory_with("forgotten", a=["one"])

    relay_for(memory, Tell("tell")).deliver("forgotten")

    assert memory.outbox[0].dead


def test_waits_longer_after_each_failure_but_not_for_ever() -> None:
    later = RetryPolicy(first_wait=0.1, longest_wait=30)

    def waits(error: Exception) -> list[float | None]:
        return [
            later.after(OutboxMessage(1, attempts, 0, _unreadable), error).retry_in
            for attempts in (0, 1, 2, 20, 10_000)
        ]

    assert waits(ValueError()) == [0.1, 0.2, 0.4, 30, 30]
    assert waits(Unavailable()) == [0.1, 0.2, 0.4, 2, 2], "an outage that is over is noticed soon"


def test_an_outage_does_not_count_against_an_effect() -> None:
    later = RetryPolicy(most_faults=3)
    after_a_long_outage = OutboxMessage(1, attempts=1_000, faults=1, read=_unreadable)

    assert later.after(after_a_long_outage, ValueError()).retry_in is not None
    assert later.after(OutboxMessage(1, attempts=1_001, faults=2, read=_unreadable), ValueError()).retry_in is None


def test_a_slow_effect_delays_no_other() -> None:
    release, told = Event(), Event()

    def wait(_: str) -> None:
        assert release.wait(10)

    def note(_: str) -> None:
        told.set()

    memory = memory_with("slow", a=["one"])
    memory.outbox += memory_with("quick", a=["one"]).outbox
    stop = Event()
    thread = Thread(target=relay_for(memory, Tell("slow", wait), Tell("quick", note)).run, args=(stop,))
    thread.start()
    try:
        assert told.wait(10), "the quick effect waited for the slow one"
    finally:
        release.set()
        stop.set()
        thread.join(10)


def test_an_effect_that_is_slow_for_one_stream_delays_no_other() -> None:
    release, told = Event(), Event()

    def slow_for_one(word: str) -> None:
        if word == "slow":
            assert release.wait(10)
        elif word == "last":
            told.set()

    tell = Tell("tell", slow_for_one, workers=4)
    memory = memory_with("tell", a=["slow"], **{f"b{number}": ["quick"] for number in range(20)}, z=["last"])
    stop = Event()
    thread = Thread(target=Relay(routes_to(tell), ExclusiveDeliveries(memory)).run, args=(stop,))
    thread.start()
    try:
        assert told.wait(10), "others waited for the slow one"
    finally:
        release.set()
        stop.set()
        thread.join(10)


class ExclusiveDeliveries(MemoryDeliveries):
    """A stream is claimed by one thread at a time."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self._claimed: set[str] = set()
        self._lock = Lock()

    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        with self._lock:
            claims = [claim for claim in super().claim(effect) if claim.stream not in self._claimed][:most]
            self._claimed |= {claim.stream for claim in claims}
            return claims

    def settle(self, effect: str, claims: Sequence[Claim]) -> None:
        with self._lock:
            super().settle(effect, claims)
            self._claimed -= {claim.stream for claim in claims}


def routes_to(*effects: Tell) -> Routes[object]:
    table: Routes[object] = Routes()
    table.effect(Said, *(one.effect for one in effects))
    return table


def test_stops_delivering_before_its_claim_runs_out() -> None:
    times = iter([0.0, 30.0, 30.1, 30.1])  # its claim is for sixty
    tell = Tell("tell")
    memory = memory_with("tell", a=["one", "two"])
    table: Routes[object] = Routes()
    table.effect(Said, tell.effect)

    Relay(table, MemoryDeliveries(memory), clock=lambda: next(times)).deliver("tell")

    assert tell.told == ["one"]
    assert [waiting.recorded.version for waiting in memory.outbox] == [2]


def test_tells_an_effect_what_came_before_and_by_which_claim() -> None:
    tell = Tell("tell")
    memory = memory_with("tell", a=["one", "two"])
    relay = relay_for(memory, tell)

    relay.deliver("tell")
    memory.outbox.append(Waiting(Recorded("a", 5, Said("five"), Metadata.first("test")), "tell"))
    relay.deliver("tell")

    assert [(one.recorded.version, one.after, one.token) for one in tell.deliveries] == [
        (1, 0, 1),
        (2, 1, 1),
        (5, 2, 1),
    ]


def test_whoever_comes_late_leaves_the_rest_to_the_one_who_has_taken_over() -> None:
    def refuse(word: str) -> None:
        if word == "one":
            raise ClaimLost("another has it")

    memory, tell = memory_with("tell", a=["one", "two"]), Tell("tell", refuse)

    assert relay_for(memory, tell).deliver("tell") == 0

    assert tell.told == []
    assert [(one.attempts, one.dead) for one in memory.outbox] == [(0, False), (0, False)]


class LostDeliveries(MemoryDeliveries):
    def extend(self, effect: str, claims: Sequence[Claim]) -> list[str]:
        return []


def test_stops_when_a_claim_could_not_be_kept_up() -> None:
    memory = memory_with("tell", a=["one", "two"])
    tell = Tell("tell")
    table: Routes[object] = Routes()
    table.effect(Said, tell.effect)
    relay = Relay(table, LostDeliveries(memory))
    tell.on = lambda _: relay.keep_claims()

    relay.deliver("tell")

    assert tell.told == ["one"]


class RememberedDeliveries(MemoryDeliveries):
    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        self.claims = super().claim(effect, most)
        return self.claims


def test_what_was_found_lost_stays_lost() -> None:
    """Redis has heard of another relay, and the database, which was restored, has not."""

    def refuse(word: str) -> None:
        if word == "one":
            raise ClaimLost("another has it")
        relay.keep_claims()

    deliveries = RememberedDeliveries(memory_with("tell", a=["one"], b=["uno"]))
    relay = Relay(routes_to(Tell("tell", refuse)), deliveries)

    relay.deliver("tell")

    assert [(claim.stream, claim.lost) for claim in deliveries.claims] == [("a", True), ("b", False)]


def assert_set(event: Event) -> None:
    assert event.wait(10)


class ShortLeases(MemoryDeliveries):
    lease = 0.02

    def __init__(self, memory: Memory, kept_up: Event) -> None:
        super().__init__(memory)
        self.extended: list[tuple[str, list[str]]] = []
        self.kept_up = kept_up

    def extend(self, effect: str, claims: Sequence[Claim]) -> Collection[str]:
        self.extended.append((effect, [claim.stream for claim in claims]))
        if len(self.extended) == 3:
            self.kept_up.set()
        return super().extend(effect, claims)


def test_a_claim_is_kept_up_as_long_as_its_effect_takes() -> None:
    stop, kept_up = Event(), Event()
    table: Routes[object] = Routes()
    table.effect(Said, Tell("tell", lambda _: assert_set(kept_up)).effect)
    deliveries = ShortLeases(memory_with("tell", a=["one"]), kept_up)
    thread = Thread(target=Relay(table, deliveries).run, args=(stop,))
    thread.start()
    try:
        assert kept_up.wait(10), "nobody keeps up the claim"
    finally:
        stop.set()
        kept_up.set()
        thread.join(10)
    assert deliveries.extended[:3] == [("tell", ["a"])] * 3


def _unreadable() -> Recorded[object]:
    raise UnreadableMessage("not known yet")


class Patient(Event):
    """Notes how long it is waited for, takes no time over it, and is set in the end."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.pauses: list[float | None] = []
        self._most = pauses

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        if len(self.pauses) == self._most:
            self.set()
        return self.is_set()


class CountedDeliveries(MemoryDeliveries):
    """Raises the faults, one after another, and then counts."""

    def __init__(self, memory: Memory, *faults: Exception) -> None:
        super().__init__(memory)
        self.faults = list(faults)
        self.asked: list[int] = []

    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        self.asked.append(most)
        assert len(self.asked) < 100, "it never rests"
        if self.faults:
            raise self.faults.pop(0)
        return super().claim(effect, most)


def test_rests_longer_and_longer_while_there_is_nothing_to_do() -> None:
    stop = Patient(pauses=16)
    deliveries = CountedDeliveries(memory_with("tell", a=["one"]))

    Relay(routes_to(Tell("tell")), deliveries).run(stop)

    assert stop.pauses == pytest.approx([*(0.01 * 1.25**number for number in range(14)), 0.2, 0.2])
    assert len(deliveries.asked) == 17, "no rest after it had something to do"


@pytest.mark.parametrize("fault", [Unavailable("no database"), ZeroDivisionError()])
def test_rests_long_after_a_fault_and_is_quick_again_after_work(fault: Exception) -> None:
    stop = Patient(pauses=4)
    deliveries = CountedDeliveries(memory_with("tell", a=["one"]), fault, fault)

    Relay(routes_to(Tell("tell")), deliveries).run(stop)

    assert stop.pauses == [0.2, 0.2, 0.01, 0.0125]


def test_an_effect_that_is_away_is_left_alone_for_a_while_then_tried_with_one_stream_until_it_is_back() -> None:
    outage = [Unavailable("no redis")] * 5

    def fail(_: str) -> None:
        if outage:
            raise outage.pop()

    tell = Tell("tell", fail)
    stop = Patient(pauses=6)
    deliveries = CountedDeliveries(memory_with("tell", a=["one"], b=["uno"], c=["un"]))

    Relay(routes_to(tell), deliveries).run(stop)

    assert tell.told == ["one", "uno", "un"]
    *rests, idle, _ = stop.pauses
    assert all(rest and 0.25 <= rest <= 0.5 for rest in rests), "the first two streams, and three more tries"
    assert (len(rests), len(set(rests)) > 1, idle) == (4, True, 0.01), "not in step with others; then at full speed"
    assert deliveries.asked[:6] == [100, 1, 1, 1, 1, 100]


def test_says_that_the_outbox_is_out_of_reach_once_for_each_reason_and_again_after_it_was_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, other = Unavailable("no database"), Unavailable("no schema")
    deliveries = CountedDeliveries(Memory(), one, one, other, other)
    relay = Relay(routes_to(Tell("tell")), deliveries)

    relay.run(Patient(pauses=5))
    deliveries.faults = [other]
    relay.run(Patient(pauses=2))

    said = [record.__dict__["error"] for record in caplog.records if record.msg == "the relay must wait"]
    assert said == ["no database", "no schema", "no schema"]


def test_only_what_may_be_slow_has_several_threads_and_then_one_stream_each() -> None:
    begun = Barrier(6)
    names: list[str] = []

    class Watched(CountedDeliveries):
        def claim(self, effect: str, most: int = 100) -> list[Claim]:
            names.append(current_thread().name)
            begun.wait(10)
            stop.set()
            return super().claim(effect, most)

    stop, quick, slow = Event(), Tell("quick"), Tell("slow", workers=5)
    deliveries = Watched(Memory())

    Relay(routes_to(quick, slow), deliveries, streams_at_once=70).run(stop)

    assert sorted(names) == ["quick"] + ["slow"] * 5
    assert sorted(deliveries.asked) == [1] * 5 + [70]


class BrokenOnce(MemoryDeliveries):
    broken = True

    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        if self.broken:
            self.broken = False
            raise ZeroDivisionError
        return super().claim(effect, most)


def test_a_fault_does_not_stop_the_relay(caplog: pytest.LogCaptureFixture) -> None:
    stop, told = Event(), Event()
    table: Routes[object] = Routes()
    table.effect(Said, Tell("tell", lambda _: told.set()).effect)
    relay = Relay(table, BrokenOnce(memory_with("tell", a=["one"])), longest_pause=0.01)
    thread = Thread(target=relay.run, args=(stop,))
    thread.start()
    try:
        assert told.wait(10), "the relay stopped at a fault"
    finally:
        stop.set()
        thread.join(10)
    assert "the relay failed, and goes on" in caplog.text


class RefusedDeliveries(MemoryDeliveries):
    def __init__(self, memory: Memory, *refusals: Exception) -> None:
        super().__init__(memory)
        self.refusals = list(refusals)

    def settle(self, effect: str, claims: Sequence[Claim]) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        super().settle(effect, claims)


@pytest.mark.parametrize(
    ("refusals", "times"),
    [
        ([NotAllowed("grant it first")] * 3, 1),
        ([ValueError("whatever a trigger says of one stream")], 2),
        ([Unavailable("away")], 2),
        ([NotAllowed("grant it first"), Disconnected("away"), NotAllowed("grant it first")], 2),
    ],
)
def test_what_can_not_be_written_down_is_carried_out_once_unless_it_may_be_another_database_by_now(
    refusals: list[Exception], times: int
) -> None:
    tell = Tell("publish")
    memory = memory_with("publish", LAMP=["a", "b"], TABLE=["c"])
    relay = Relay(routes_to(tell), RefusedDeliveries(memory, *refusals))
    for refusal in refusals:
        with pytest.raises(type(refusal)):
            relay.deliver("publish")
    relay.deliver("publish")

    assert tell.told == ["a", "b", "c"] * times
    assert memory.outbox == []


class UnreadableDeliveries(MemoryDeliveries):
    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        return [Claim("a", token=1, after=0, messages=[OutboxMessage(1, 0, 0, _unreadable)])]


def test_what_cannot_be_read_is_dead_at_once() -> None:
    memory = memory_with("tell", a=["one"])
    table: Routes[object] = Routes()
    table.effect(Said, Tell("tell").effect)

    Relay(table, UnreadableDeliveries(memory)).deliver("tell")

    [letter] = memory.outbox
    assert (letter.dead, letter.reason, letter.faults) == (True, "not known yet", 1)
