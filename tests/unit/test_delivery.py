"""Effects on many events at once: the same promises as one by one, of every stream on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from messaging.envelope import Delivery, Metadata, Recorded
from messaging.errors import ClaimLost, Unavailable, UnknownMessage, UnreadableMessage
from messaging.outbox.claims import Claim, OutboxMessage
from messaging.outbox.delivery import DeliveryRound, Outage, RetryPolicy
from messaging.outbox.effects import Effect, one_by_one
from messaging.routes import Routes


@dataclass(frozen=True)
class Said:
    word: str


@dataclass(frozen=True)
class Whispered:
    word: str


def word(delivery: Delivery[Any]) -> str:
    return str(delivery.recorded.event.word)


@dataclass
class TellMany:
    """`refuse` gives the streams that fail, or raises for all. `calls` are the words that were told together."""

    refuse: Callable[[Sequence[Delivery[Any]]], Mapping[str, Exception]] = lambda _: {}
    batch: int = 100
    calls: list[list[str]] = field(default_factory=list)
    deliveries: list[Delivery[Any]] = field(default_factory=list)

    @property
    def effect(self) -> Effect[Any]:
        return Effect("tell", self.deliver, batch=self.batch)

    def deliver(self, deliveries: Sequence[Delivery[Any]]) -> Mapping[str, Exception]:
        refused = self.refuse(deliveries)
        self.calls.append([word(one) for one in deliveries if one.recorded.stream not in refused])
        self.deliveries += deliveries
        return refused


@dataclass
class TellOne:
    told: list[str] = field(default_factory=list)
    refused: str = ""

    @property
    def effect(self) -> Effect[Any]:
        return Effect("tell", one_by_one(self))

    def __call__(self, delivery: Delivery[Any]) -> None:
        if word(delivery) == self.refused:
            raise Unavailable("not now")
        self.told.append(word(delivery))


def claim(stream: str, *events: object, after: int = 0, token: int = 1) -> Claim:
    """An exception among the events is a letter that can't be read."""

    def letter(version: int, event: object) -> OutboxMessage:
        def read() -> Recorded[object]:
            if isinstance(event, Exception):
                raise event
            return Recorded(stream, version, event, Metadata.first("test"))

        return OutboxMessage(version, 0, 0, read)

    letters = [letter(version, event) for version, event in enumerate(events, start=after + 1)]
    return Claim(stream, token, after, letters)


def saying(stream: str, words: str) -> Claim:
    return claim(stream, *(Said(one) for one in words.split()))


def run(
    claims: Sequence[Claim],
    said: TellMany | TellOne,
    whispered: TellMany | TellOne | None = None,
    time_is_up: Callable[[], bool] = lambda: False,
    outage: Outage | None = None,
) -> None:
    table: Routes[object] = Routes()
    table.effect(Said, said.effect)
    if whispered:
        table.effect(Whispered, whispered.effect)
    DeliveryRound("tell", table, RetryPolicy(), time_is_up, outage or Outage("tell")).run(claims)


def failed(one: Claim) -> int | None:
    return one.failure.version if one.failure else None


def test_streams_are_published_together_each_in_its_order() -> None:
    tell = TellMany()
    claims = [saying("a", "one two three"), saying("b", "uno due")]

    run(claims, tell)

    assert tell.calls == [["one", "two", "three", "uno", "due"]]
    assert [one.delivered for one in claims] == [[1, 2, 3], [1, 2]]


def test_no_more_at_once_than_the_effect_takes() -> None:
    tell = TellMany(batch=2)

    run([saying("a", "one two three"), saying("b", "uno due")], tell)

    assert tell.calls == [["one", "two"], ["three", "uno"], ["due"]]


def test_each_delivery_says_what_came_before_and_by_which_claim() -> None:
    tell = TellMany(batch=2)

    run([claim("a", Said("x"), Said("y"), Said("z"), after=6, token=9)], tell)

    assert [(one.recorded.version, one.after, one.token) for one in tell.deliveries] == [
        (7, 6, 9),
        (8, 7, 9),
        (9, 8, 9),
    ]


@pytest.mark.parametrize("error", [Unavailable("a gap"), ValueError("can't be told")])
def test_a_stream_that_fails_holds_back_no_other(error: Exception) -> None:
    tell = TellMany(lambda deliveries: {"a": error} if deliveries[0].recorded.stream == "a" else {})
    claims = [saying("a", "one two"), saying("b", "uno due")]

    run(claims, tell)

    a, b = claims
    assert (a.delivered, failed(a)) == ([], 1)
    assert (b.delivered, failed(b)) == ([1, 2], None)


def away(_: object) -> Mapping[str, Exception]:
    raise Unavailable("no redis")


def test_an_outage_leaves_all_that_was_to_be_published_and_one_stream_notes_why() -> None:
    outage = Outage("tell")
    claims = [saying("a", "one two"), saying("b", "uno due")]

    run(claims, TellMany(away), outage=outage)

    assert outage.is_on
    assert [(one.delivered, failed(one)) for one in claims] == [([], 1), ([], None)]
    assert claims[0].failure
    assert (claims[0].failure.reason, claims[0].failure.is_fault) == ("Unavailable('no redis')", False)


def test_in_an_outage_a_stream_notes_why_with_its_first_letter() -> None:
    claims = [saying("a", "one two")]
    outage = Outage("tell")
    outage.meet({"b", "c"}, Unavailable("no redis"))

    run(claims, TellMany(away), outage=outage)

    assert failed(claims[0]) == 1


def test_in_an_outage_nothing_more_is_tried() -> None:
    calls: list[int] = []

    def count(deliveries: Sequence[Delivery[Any]]) -> Mapping[str, Exception]:
        calls.append(len(deliveries))
        raise Unavailable("no redis")

    claims = [saying(stream, "one two") for stream in "abcdefgh"]

    run(claims, TellMany(count, batch=3))

    assert calls == [3]
    assert [failed(one) for one in claims] == [1] + [None] * 7


def test_in_an_outage_no_other_effect_of_the_same_name_is_tried() -> None:
    whisper = TellOne()
    claims = [saying("a", "one"), saying("b", "uno"), claim("c", Whispered("un"))]

    run(claims, TellMany(away), whisper)

    assert whisper.told == []
    assert claims[2].failure is None


def test_one_stream_alone_fails_for_itself_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """As a mail whose address takes no mail today."""
    outage, tell = Outage("tell"), TellOne(refused="two")
    claims = [saying("a", "one two three"), saying("b", "uno due")]

    run(claims, tell, outage=outage)

    assert not outage.is_on
    assert tell.told == ["one", "uno", "due"]
    assert (failed(claims[0]), failed(claims[1])) == (2, None)
    assert caplog.messages == ["an effect failed"]


def test_two_streams_in_a_row_that_find_it_away_are_an_outage_and_a_third_is_not_tried() -> None:
    @dataclass
    class Away(TellOne):
        def __call__(self, delivery: Delivery[Any]) -> None:
            self.told.append(word(delivery))
            raise Unavailable("no mail server")

    tell = Away()
    claims = [saying("a", "one"), saying("b", "uno"), saying("c", "un")]

    run(claims, tell)

    assert tell.told == ["one", "uno"]
    assert [failed(one) for one in claims] == [1, 1, None]


def test_an_outage_is_said_once_and_that_it_is_over_too(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("tell")

    for _ in range(3):
        run([saying("a", "one"), saying("b", "uno")], TellMany(away), outage=outage)
        run([saying("c", "un")], TellMany(away), outage=outage)
    assert caplog.messages == ["an effect is away, and tried until it is back"]
    run([saying("c", "un")], TellMany(), outage=outage)
    run([saying("a", "one")], TellMany(), outage=outage)

    assert caplog.messages[1:] == ["an effect is back"]
    assert not outage.is_on


def test_what_is_published_between_two_that_fail_shows_that_it_is_no_outage() -> None:
    outage, tell = Outage("tell"), TellOne(refused="later")

    run([saying("a", "later"), saying("b", "uno"), saying("c", "later")], tell, outage=outage)

    assert not outage.is_on


def refuse_two(deliveries: Sequence[Delivery[Any]]) -> Mapping[str, Exception]:
    if any(word(one) == "two" for one in deliveries):
        raise ValueError("can't be told")
    return {}


def test_the_fault_of_one_event_is_its_own_and_what_came_before_it_is_published() -> None:
    tell = TellMany(refuse_two)
    claims = [saying("a", "one two three"), saying("b", "uno due")]

    run(claims, tell)

    a, b = claims
    assert tell.calls == [["one"], ["uno"], ["due"]]
    assert (a.delivered, failed(a), a.failure and a.failure.is_fault) == ([1], 2, True)
    assert (b.delivered, failed(b)) == ([1, 2], None)


def test_a_stream_that_another_relay_has_is_left_to_it_and_the_others_go_on() -> None:
    tell = TellMany(lambda _: {"a": ClaimLost("another has it")}, batch=3)
    claims = [saying("a", "one two three four"), saying("b", "uno due")]

    run(claims, tell)

    a, b = claims
    assert (a.delivered, a.failure, a.lost) == ([], None, True)
    assert b.delivered == [1, 2]
    assert "four" not in map(word, tell.deliveries)


def test_later_letters_wait_behind_one_that_failed() -> None:
    tell = TellMany(lambda _: {"a": Unavailable("not now")}, batch=2)
    claims = [saying("a", "one two three four five"), saying("b", "uno")]

    run(claims, tell)

    assert [word(one) for one in tell.deliveries] == ["one", "two", "uno"]


def test_what_comes_before_a_message_that_can_not_be_read_is_published() -> None:
    tell = TellMany()
    claims = [saying("z", "zero"), claim("a", Said("one"), UnreadableMessage("not known yet"), Said("three"))]

    run(claims, tell)

    assert tell.calls == [["zero", "one"]]
    assert (claims[1].delivered, failed(claims[1])) == ([1], 2)


def test_an_event_of_a_newer_release_waits_until_a_relay_knows_it() -> None:
    tell = TellMany()
    a, b = claim("a", Said("one"), UnknownMessage("shouted.v1"), Said("three")), saying("b", "uno")

    run([a, b], tell)

    assert (a.delivered, b.delivered) == ([1], [1]), "others go on"
    assert a.failure
    assert (a.failure.version, a.failure.is_fault, a.failure.retry_in) == (2, False, 0.1)
    assert a.failure.reason == ("no message is known as shouted.v1 to this release; a newer one may have written it")
    many_times = OutboxMessage(2, attempts=1000, faults=0, read=a.messages[1].read)
    assert RetryPolicy().after(many_times, UnknownMessage("shouted.v1")).retry_in == 30.0, "never given up"


def test_a_letter_that_can_not_be_read_is_not_blamed_for_those_before_it() -> None:
    tell = TellMany(lambda _: {"a": Unavailable("not now")})
    a = claim("a", Said("one"), UnreadableMessage("not known yet"))

    run([a], tell)

    assert failed(a) == 1


def test_what_was_gathered_is_not_published_when_its_claim_was_lost_meanwhile() -> None:
    a = saying("a", "one two")

    def lose() -> bool:
        a.lost = bool(ours)
        ours.append("one was gathered")
        return False

    ours: list[str] = []
    tell = TellMany()

    run([a, saying("b", "uno")], tell, time_is_up=lose)

    assert [word(one) for one in tell.deliveries] == ["uno"]
    assert a.delivered == []


def test_when_time_is_up_nothing_more_is_gathered_and_what_was_gathered_is_published() -> None:
    moments = iter([False, True, True])
    tell = TellMany()
    claims = [saying("a", "one two"), saying("b", "uno")]

    run(claims, tell, time_is_up=lambda: next(moments))

    assert tell.calls == [["one"]]
    assert [one.delivered for one in claims] == [[1], []]


def test_when_time_is_up_nothing_more_is_tried_alone() -> None:
    moments = iter([False] * 4 + [True])
    tell = TellMany(refuse_two)
    a = saying("a", "one two three")

    run([a], tell, time_is_up=lambda: next(moments))

    assert tell.calls == [["one"]]
    assert (a.delivered, a.failure) == ([1], None)


def test_events_of_one_stream_keep_their_order_though_different_effects_publish_them() -> None:
    aloud, whisper = TellMany(batch=10), TellOne()
    a = claim("a", Said("one"), Said("two"), Whispered("three"), Said("four"))

    run([a], aloud, whisper)

    assert (aloud.calls, whisper.told) == ([["one", "two"], ["four"]], ["three"])
    assert a.delivered == [1, 2, 3, 4]


def test_no_effect_overtakes_another_of_the_same_stream_that_failed() -> None:
    silent, whisper = TellMany(lambda _: {"a": Unavailable("not now")}), TellOne()
    a = claim("a", Said("one"), Whispered("two"))

    run([a], silent, whisper)

    assert whisper.told == []
    assert failed(a) == 1
