"""What was seen of one round from outside: answers, messages sent, events told, mails, and the rows left at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

PREFIX, SUFFIX = "allocation.", ".v1"
LONG_PAST, FAR_AHEAD = "2020-01-01", "2199-12-31"
"""Days. None that a round names is near, so that nobody's clock matters."""


Thing = tuple[str, ...]
"""What happens once at most, however often it is said."""


NAMES_A_HOLD = "-held-"
"""Stands in the id of an order line, before the id of the hold that it takes over."""


def is_past(day: str | None) -> bool:
    return day is not None and day <= LONG_PAST


@dataclass(frozen=True, slots=True)
class Told:
    """An entry of the stream of events; `heard` by our clock, `time` by that of whoever recorded it."""

    entry: str
    id: str
    kind: str
    sku: str
    version: int
    time: float
    data: Mapping[str, Any]
    heard: float = 0.0

    @classmethod
    def read(cls, entry: str, body: bytes, heard: float) -> Told:
        said = json.loads(body)
        kind = said["type"].removeprefix(PREFIX).removesuffix(SUFFIX)
        time = datetime.fromisoformat(said["time"]).timestamp()
        return cls(entry, said["id"], kind, said["subject"], int(said["sequence"]), time, said["data"], heard)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request over HTTP and its final answer; whatever went wrong before was asked again with the same key."""

    key: str
    path: str
    body: Mapping[str, Any]
    begun: float
    answered: float
    status: int
    answer: str
    thing: Thing | None = None
    """What it is about, where that is nothing that is added or allocated."""
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that Redis took; `way` is stream or channel, and of a channel it says how many `listeners` there were.
    One that is not `good` must be refused; one of which nobody knows (None) has an effect, or is refused."""

    way: str
    id: str
    kind: str
    body: bytes
    data: Mapping[str, Any]
    sent_at: float
    good: bool | None = True
    listeners: int = 0


Row = tuple[Any, ...]


@dataclass(slots=True)
class Rows:
    """Columns as in `harvest.QUERIES`."""

    event_log: list[Row] = field(default_factory=list)
    products: list[Row] = field(default_factory=list)
    batches: list[Row] = field(default_factory=list)
    allocations: list[Row] = field(default_factory=list)
    order_lines: list[Row] = field(default_factory=list)
    allocations_view: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    backorders: list[Row] = field(default_factory=list)
    holds: list[Row] = field(default_factory=list)
    dead_letters: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class History:
    told: list[Told] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    rows: Rows = field(default_factory=Rows)
    stream: list[Told] | None = None
    """What is told to who comes late, at the end."""
    moments: list[Rows] = field(default_factory=list)
    """Of earlier moments, while the service was at work."""
    misused: list[Asked] = field(default_factory=list)
    """Requests with a key that another request has had."""
    copies: Mapping[bytes, int] = field(default_factory=dict)
    """Of messages: how often they were sent over the stream at most, if not once."""
    mails: dict[str, float] = field(default_factory=dict)
    """By the id of the event that a mail was sent of: when, for the last time."""
    nobody_died: bool = False
    """Of those who listen to channels."""
    clocks_agree: bool = True
    """Ours, and that of the database."""


@dataclass(frozen=True, slots=True)
class Violation:
    """`kind` is one of a few words that tests name; `what` is for people."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"
