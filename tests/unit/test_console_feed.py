"""What happens meanwhile: shown once and in order, by few streams, which end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_console import Console

from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints import console as the_console
from allocation.entrypoints.console.feed import LONGEST_STREAM, MOST_STREAMS, NEWEST, Streams, shown, stream
from messaging.errors import Unavailable
from messaging.sql.log_reader import LoggedEvent


def entry(number: int, kind: str = "another.v9") -> LoggedEvent:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return LoggedEvent(f"id-{number}", kind, "CHAIR", number, moment, "correlation", None, None, {})


class Log:
    """Grows by some events at each look, and counts the seconds between looks."""

    def __init__(self, *looks: int) -> None:
        self.looks = list(looks)
        self.entries: list[LoggedEvent] = []
        self.now = 0.0
        self.is_away = False

    def latest(self, most: int) -> Sequence[LoggedEvent]:
        if self.is_away:
            raise Unavailable("no database")
        if self.looks:
            length = len(self.entries)
            self.entries += [entry(length + number) for number in range(self.looks.pop(0))]
        return self.entries[-most:]

    def go_on(self, seconds: float) -> bool:
        self.now += seconds
        assert self.now < 2 * LONGEST_STREAM, "it does not end"
        return True

    def stream(self, seen: str | None = None) -> Iterator[str]:
        return stream(self.latest, seen, self.go_on, lambda: True, clock=lambda: self.now)


def ids(pieces: Iterator[str]) -> list[str]:
    return [line.removeprefix("id: ") for piece in pieces for line in piece.splitlines() if line.startswith("id: ")]


@given(st.lists(st.integers(0, NEWEST), max_size=20))
def test_every_event_is_shown_once_and_in_order(looks: list[int]) -> None:
    log = Log(*looks)

    assert ids(log.stream()) == [one.id for one in log.entries]


def test_whoever_comes_back_hears_only_what_is_new() -> None:
    log = Log(5)

    assert ids(log.stream("id-2")) == ["id-3", "id-4"]


def test_more_than_a_page_shows_is_not_caught_up_with() -> None:
    log = Log(1, NEWEST + 10)

    assert len(ids(log.stream())) == 1 + NEWEST


def test_an_event_is_told_in_words_that_are_data() -> None:
    console = Console(own_app=True)
    console.given(CreateBatch("b1", "</script>\n", 5), Allocate("o1", "</script>\n", 2))

    (event,) = (console.look("/events").json or {})["events"][1:]

    assert event["kind"] == "success"
    assert {"text": "</script>\n", "is_name": True, "href": "/console/product?sku=%3C%2Fscript%3E%0A"} in event["words"]
    assert "".join(word["text"] for word in event["words"]) == "Order o1 was promised 2 of </script>\n from batch b1"


def test_a_line_break_in_a_name_does_not_end_a_message_of_the_stream() -> None:
    console = Console(own_app=True)
    console.given(CreateBatch("b1", "A\n\nid: 7", 5))

    pieces = stream(console.log.latest, None, lambda _: False, lambda: True)
    (message,) = [piece for piece in pieces if "event: happened" in piece]

    assert message.count("\n\n") == 1
    assert json.loads(message.split("data: ", 1)[1])["kind"] == "stock"


def test_an_event_of_a_newer_version_is_told_as_such() -> None:
    assert shown(entry(1))["words"][1] == {"text": "another.v9", "is_name": True, "href": None}


def test_a_stream_ends_by_itself() -> None:
    log = Log(1)

    pieces = list(log.stream())

    assert log.now == pytest.approx(LONGEST_STREAM, abs=2)
    assert len(pieces) > LONGEST_STREAM / 2, "signs of life, so that the other side's end is noticed"


def test_a_stream_ends_when_the_worker_is_to_end() -> None:
    streams = Streams()
    pieces = stream(Log(1).latest, None, streams.wait, lambda: True)
    assert next(pieces).startswith("id: ")

    streams.end()

    assert list(pieces) == [": here\n\n"]
    assert not streams.enter()


def test_a_stream_ends_with_the_right_to_see_it() -> None:
    rights = iter([True, True, False])

    pieces = stream(Log(1, 1, 1).latest, None, lambda _: True, lambda: next(rights))

    assert ids(pieces) == ["id-0", "id-1"]


def test_a_stream_ends_when_the_database_is_away() -> None:
    log = Log(1)
    pieces = log.stream()
    next(pieces)
    log.is_away = True

    assert list(pieces) == [": here\n\n"]


def test_only_so_many_streams_are_open_and_others_are_told_when_to_come_again() -> None:
    console = Console(own_app=True)
    opened = [console.look("/events/stream") for _ in range(MOST_STREAMS)]
    assert [answer.status_code for answer in opened] == [200] * MOST_STREAMS
    assert opened[0].mimetype == "text/event-stream"

    refused = console.look("/events/stream")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
    assert has_stream(console) is False

    opened[0].close()
    assert has_stream(console) is True
    with console.look("/events/stream") as again:
        assert again.status_code == 200
    opened[1].close()


def test_a_stream_that_nobody_reads_is_given_back_too() -> None:
    console = Console(own_app=True)

    for _ in range(3 * MOST_STREAMS):
        with console.browser.head("/console/events/stream") as answer:
            assert answer.status_code == 200

    assert has_stream(console) is True


def test_where_there_are_few_threads_there_are_no_streams() -> None:
    console = Console(own_app=True)

    the_console.limit_streams(console.app, 0)

    assert console.look("/events/stream").status_code == 503


def test_there_are_never_more_streams_than_usual() -> None:
    streams = Streams()

    streams.allow(1_000)

    assert sum(streams.enter() for _ in range(1_000)) == MOST_STREAMS


def has_stream(console: Console) -> Any:
    return (console.look("/events").json or {})["has_stream"]
