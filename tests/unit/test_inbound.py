"""Messages from other systems: read from whichever way they come, and never dropped untried."""

from __future__ import annotations

import json
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from allocation.domain import commands
from allocation.entrypoints.inbound import Stuck, read, until_possible
from messaging.errors import (
    AlreadyThere,
    ConcurrencyConflict,
    ConflictRetriesExhausted,
    RequestInProgress,
    Unavailable,
    UnreadableMessage,
)
from messaging.sql.exclusive import Occupied

MESSAGE = {"specversion": "1.0", "id": "m1", "source": "/shop", "type": "allocation.allocate.v1"}


def event(data: dict[str, Any], **attributes: Any) -> bytes:
    return json.dumps(MESSAGE | attributes | {"data": data}).encode()


@pytest.mark.parametrize(
    ("kind", "data", "command"),
    [
        ("create_batch", {"ref": "b1", "sku": "S", "qty": 2}, commands.CreateBatch("b1", "S", 2)),
        ("allocate", {"orderid": "o1", "sku": "S", "qty": 2, "lineid": "l"}, commands.Allocate("o1", "S", 2, "l")),
        ("change_batch_quantity", {"batchref": "b1", "qty": 2}, commands.ChangeBatchQuantity("b1", 2)),
    ],
)
def test_reads_each_command_as_it_is_said_elsewhere(kind: str, data: dict[str, Any], command: object) -> None:
    request = read("allocation.commands", event(data, type=f"allocation.{kind}.v1", correlationid="c1", other=[1]))

    assert request.command == command
    assert (request.metadata.id, request.metadata.correlation_id, request.metadata.source) == ("m1", "c1", "/shop")


def test_source_and_id_together_name_a_message() -> None:
    data = {"orderid": "o1", "sku": "S", "qty": 2}
    ids = {
        read("allocation.commands", event(data, source=source, id=name)).message_id
        for source, name in (("a", "b"), ("a b", "c"), ("a", "b c"), ('a", "b', "c"))
    }

    assert len(ids) == 4


def test_a_message_without_a_correlation_begins_one() -> None:
    request = read("allocation.commands", event({"orderid": "o1", "sku": "S", "qty": 2}))

    assert request.metadata.correlation_id == "m1"


def test_says_which_commands_there_are() -> None:
    with pytest.raises(UnreadableMessage, match=r"one of allocation\.create_batch\.v1, .*, not 'allocation\.sell\.v1'"):
        read("allocation.commands", event({}, type="allocation.sell.v1"))


def test_what_came_as_the_process_was_told_to_stop_is_tried_all_the_same() -> None:
    tried, stop = [], Event()
    stop.set()

    assert until_possible(lambda: tried.append(1), stop)

    assert tried == [1]


class Unhurried(Event):
    """Notes for how long it is waited for, and takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        return self.is_set()


def test_tries_again_while_the_surroundings_fail() -> None:
    stop = Unhurried()
    faults: list[Exception] = [Unavailable("away"), RequestInProgress("m1")]

    def attempt() -> None:
        if faults:
            raise faults.pop()

    assert until_possible(attempt, stop)
    assert stop.pauses == [0.1, 0.2]


@pytest.mark.parametrize(
    "error", [ConflictRetriesExhausted("by others"), ConcurrencyConflict("a lock is not to be had")]
)
def test_tries_again_after_a_moment_when_others_were_faster(error: Exception) -> None:
    stop = Unhurried()
    faults = [error] * 20

    def attempt() -> None:
        if faults:
            raise faults.pop()

    assert until_possible(attempt, stop, longest_pause=0.3)
    assert set(stop.pauses) <= {0.1, 0.2, 0.3}


def test_says_once_in_a_while_what_it_waits_for_and_that_it_is_possible_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    moments = iter(range(0, 10_000, 25))
    monkeypatch.setattr("allocation.entrypoints.inbound.time", SimpleNamespace(monotonic=lambda: next(moments)))
    faults = [ConflictRetriesExhausted("a row is locked")] * 8

    def attempt() -> None:
        if faults:
            raise faults.pop()

    assert until_possible(attempt, Unhurried())

    said = [(record.message, getattr(record, "tries", None)) for record in caplog.records]
    assert said == [("will try again", 1), ("will try again", 4), ("will try again", 7), ("possible again", 9)]


def overtaken_by(conflict: Exception) -> ConflictRetriesExhausted:
    error = ConflictRetriesExhausted("given up after 300 tries")
    error.__cause__ = conflict
    return error


def test_what_stands_in_the_way_and_is_nobodys_doing_is_not_waited_for() -> None:
    def attempt() -> None:
        raise overtaken_by(AlreadyThere("b9 is there already"))

    with pytest.raises(Stuck, match="b9 is there already"):
        until_possible(attempt, Unhurried())


@pytest.mark.parametrize(
    "errors",
    [
        [overtaken_by(AlreadyThere(f"version {number} is there already")) for number in range(10)],
        [overtaken_by(ConcurrencyConflict("could not serialize access"))] * 10,
        [overtaken_by(AlreadyThere("b9 is there already")), Unavailable("away")] * 10,
    ],
    ids=["another each time", "others at the same row", "between outages"],
)
def test_others_at_work_are_waited_for_as_long_as_it_takes(errors: list[Exception]) -> None:
    left = [*errors]

    def attempt() -> None:
        if left:
            raise left.pop()

    assert until_possible(attempt, Unhurried())


def test_gives_up_when_told_to_stop_and_says_so() -> None:
    stop = Event()

    def attempt() -> None:
        stop.set()
        raise Unavailable("away")

    assert not until_possible(attempt, stop)


def test_leaves_it_to_another_who_is_at_work_instead() -> None:
    def attempt() -> None:
        raise Occupied("another has it")

    with pytest.raises(Occupied):
        until_possible(attempt, Event())


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"correlation_id": "till-5/4711"}, True),
        ({"correlation_id": ""}, False),
        ({"correlation_id": "x" * 256}, False),
        ({"correlation_id": "two\nlines"}, False),
        ({"correlation_id": "заказ"}, False),
        ({"correlation_id": 5}, False),
        ({}, False),
        ("text", False),
        (None, False),
    ],
)
def test_a_message_over_pub_sub_may_bring_its_correlation_where_ours_have_it(said: Any, kept: bool) -> None:
    body = json.dumps({"batchref": "b1", "qty": 5, "metadata": said}).encode()

    metadata = read("change_batch_quantity", body).metadata

    assert metadata.correlation_id == (said["correlation_id"] if kept else metadata.id)


def test_the_trace_of_a_command_s_sender_is_its_correlation_unless_another_is_given() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    data = {"orderid": "o1", "sku": "S", "qty": 2}

    def correlation(**attributes: Any) -> str:
        return read("allocation.commands", event(data, **attributes)).metadata.correlation_id

    assert correlation(traceparent=f"00-{trace}-00f067aa0ba902b7-01") == trace
    assert correlation(traceparent=f"00-{trace}-00f067aa0ba902b7-01", correlationid="c1") == "c1"
    unreadable: list[Any] = ["nonsense", 5, None, {}]
    assert [correlation(traceparent=bad) for bad in unreadable] == ["m1"] * 4
