"""How `allocation watch` tells of events."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from allocation.adapters.wire_names import CODEC
from allocation.domain.events import (
    Allocated,
    BatchCounted,
    BatchCreated,
    BatchQuantityChanged,
    BatchReceived,
    Deallocated,
    Dispatched,
    EtaChanged,
    Event,
    LineReleased,
    OrderCancelled,
    OutOfStock,
    Quarantined,
    QuarantineReleased,
    Returned,
    WrittenOff,
)
from allocation.entrypoints.command_line.event_lines import event_in, in_a_line, moment_of
from allocation.entrypoints.command_line.output import printable

NOW = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)

SAID: list[tuple[Event, str]] = [
    (BatchCreated("b-2", "LAMP", 1_000, None), "batch b-2 brought 1,000 of LAMP, in the warehouse"),
    (BatchCreated("b-3", "LAMP", 5, date(2027, 1, 2)), "batch b-3 will bring 5 of LAMP on 2027-01-02"),
    (BatchQuantityChanged("b-2", "LAMP", 7), "batch b-2 holds 7 of LAMP now"),
    (Allocated("o-17", "LAMP", 3, "b-2", "LAMP"), "order o-17 was promised 3 of LAMP from batch b-2"),
    (Allocated("o-17", "LAMP", 3, "b-2", "2"), "order o-17, line 2, was promised 3 of LAMP from batch b-2"),
    (Deallocated("o-17", "LAMP", 3, "b-2", "LAMP"), "order o-17 lost its 3 of LAMP from batch b-2"),
    (OutOfStock("o-17", "LAMP", 3, "LAMP"), "order o-17 asked for 3 of LAMP: out of stock"),
    (EtaChanged("b-3", "LAMP", date(2027, 1, 9)), "batch b-3 of LAMP is expected on 2027-01-09 now"),
    (BatchReceived("b-3", "LAMP", "r-1", 5_000, 0, 5_000, None, None), "batch b-3 arrived with 5,000 of LAMP"),
    (
        BatchReceived("b-3", "LAMP", "r-1", 4, 1, 4, None, "b-4"),
        "batch b-3 arrived with 4 of LAMP, 1 of them damaged, and batch b-4 brings the rest",
    ),
    (BatchCounted("b-2", "LAMP", "c-1", 6, 9, "lost"), "a count of batch b-2 found 6 of LAMP on the shelf (lost)"),
    (Quarantined("b-2", "LAMP", 2, "damaged", "q-1"), "2 of LAMP in batch b-2 went into quarantine: damaged"),
    (QuarantineReleased("b-2", "LAMP", 1, "q-2"), "1 of LAMP in batch b-2 left quarantine, and can be sold again"),
    (
        WrittenOff("b-2", "LAMP", 1, "damaged", "w-1"),
        "batch b-2 lost 1 of LAMP from quarantine, written off: damaged",
    ),
    (LineReleased("o-17", "LAMP", 3, "b-2", "LAMP", "released"), "order o-17 gave back 3 of LAMP to batch b-2"),
    (
        LineReleased("o-17", "LAMP", 3, "b-2", "LAMP", "cancelled"),
        "order o-17 gave back 3 of LAMP to batch b-2: it was cancelled",
    ),
    (
        LineReleased("o-17", "LAMP", 3, "b-2", "LAMP", "moved"),
        "order o-17 gave back 3 of LAMP to batch b-2: it moved to another batch",
    ),
    (OrderCancelled("o-17", "LAMP"), "order o-17 was cancelled, with its lines of LAMP"),
    (
        Dispatched("o-17", "LAMP", 3, "b-2", "2", "p-1"),
        "order o-17, line 2, was sent 3 of LAMP from batch b-2, in parcel p-1",
    ),
    (Returned("o-17", "LAMP", 1, "b-2", "LAMP", "r-1", "good"), "order o-17 sent 1 of LAMP back to batch b-2"),
    (
        Returned("o-17", "LAMP", 1, "b-2", "LAMP", "r-1", "check"),
        "order o-17 sent 1 of LAMP back to batch b-2, to be checked",
    ),
]


@pytest.mark.parametrize(("event", "said"), SAID, ids=lambda value: type(value).__name__)
def test_every_event_is_published_as_it_comes_over_the_wire(event: Event, said: str) -> None:
    name, data = CODEC.encode(event)

    received = event_in({"type": f"allocation.{name}", "data": data})

    assert received == event
    assert in_a_line(event) == said


@pytest.mark.parametrize(
    "unknown",
    [
        {},
        {"type": "allocation.allocated.v9", "data": {"orderid": "o"}},
        {"type": "allocation.allocated.v1", "data": {"orderid": 3}},
        {"type": "allocation.allocated.v1", "data": ["o"]},
        {"type": None, "data": None},
    ],
)
def test_what_we_do_not_know_is_not_guessed(unknown: dict[str, object]) -> None:
    assert event_in(unknown) is None


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2026-11-21T12:03:11.5+00:00", "12:03:11"),
        ("2026-11-20T23:59:59+00:00", "2026-11-20 23:59:59"),
        ("yesterday", "--:--:--"),
        (None, "--:--:--"),
    ],
)
def test_the_date_is_told_only_when_it_is_not_today(time: str | None, said: str) -> None:
    assert moment_of({"time": time}, NOW) == said


def test_what_moves_the_cursor_is_shown_instead() -> None:
    assert printable("LAMP\x1b[2J Größe 灯") == "LAMP\\x1b[2J Größe 灯"
