"""Metrics of the database and Redis, measured at a scrape, once a second at most in each process.

What can't be reached is down, and what is known of the others is there all the same.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from allocation.views.due_dates import Backlog
from messaging.errors import Unavailable
from messaging.redis.lag import Lag
from messaging.sql.backlog import COUNTED, STREAMS_LOOKED_AT, Waiting

log = logging.getLogger(__name__)

_FRESH = 1.0


@dataclass(slots=True)
class Snapshot:
    """Found out at a moment; None is what could not be reached."""

    waiting: Waiting | None = None
    lag: Lag | None = None
    waiting_lines: int | None = None
    due_dates: Backlog | None = None


@dataclass(slots=True)
class Probe:
    """Looks at the database and Redis. Raises nothing."""

    waiting: Callable[[], Waiting]
    lag: Callable[[], Lag]
    waiting_lines: Callable[[], int]
    due_dates: Callable[[], Backlog]

    def __call__(self) -> Snapshot:
        found = Snapshot()
        with _whatever_fails("the outbox"):
            found.waiting = self.waiting()
        with _whatever_fails("the lines that wait"):
            found.waiting_lines = self.waiting_lines()
        with _whatever_fails("what comes due"):
            found.due_dates = self.due_dates()
        with _whatever_fails("the command stream"):
            found.lag = self.lag()
        return found


@contextmanager
def _whatever_fails(what: str) -> Iterator[None]:
    """The other numbers are there all the same."""
    try:
        yield
    except Unavailable:
        pass
    except Exception:
        log.exception("can't be measured", extra={"what": what})


@dataclass(slots=True)
class CachedProbe:
    """What `look` found less than a second ago; who comes meanwhile waits for it."""

    look: Callable[[], Snapshot]
    clock: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock, init=False)
    _last: Snapshot = field(default_factory=Snapshot, init=False)
    _fresh_until: float = field(default=-math.inf, init=False)

    def __call__(self) -> Snapshot:
        with self._lock:
            if self.clock() >= self._fresh_until:
                self._last = self.look()
                self._fresh_until = self.clock() + _FRESH
            return self._last


class BackingServicesCollector(Collector):
    def __init__(self, look: Callable[[], Snapshot], version: str) -> None:
        self._look = look
        self._version = version

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = self._look()
        yield _gauge("allocation_build_info", "Always 1; which release this is.", ["version"], {(self._version,): 1})
        parts: dict[Any, float] = {("database",): found.waiting is not None, ("redis",): found.lag is not None}
        yield _gauge("allocation_up", "Whether the database, or Redis, answers.", ["part"], parts)
        if found.waiting:
            yield from _of_outbox(found.waiting)
        if found.waiting_lines is not None:
            about = f"Lines that wait for stock, up to {COUNTED:,}."
            yield _gauge("allocation_waiting_lines", about, [], {(): found.waiting_lines})
        if found.due_dates:
            about = "For how long a hold that has run out, or a batch whose day has passed, is not recorded."
            yield _gauge("allocation_due_dates_lag_seconds", about, [], {(): found.due_dates.lag})
            about = f"Batches that were expected on a day that has passed, up to {COUNTED:,}."
            yield _gauge("allocation_overdue_batches", about, [], {(): found.due_dates.overdue_batches})
        if found.lag:
            yield from _of_commands(found.lag)


def _of_outbox(waiting: Waiting) -> Iterator[GaugeMetricFamily]:
    yield _gauge(
        "allocation_outbox_waiting",
        f"Effects that wait to be carried out, the dead among them, up to {COUNTED:,}.",
        ["effect"],
        {(backlog.effect,): backlog.waiting for backlog in waiting.backlogs},
    )
    yield _gauge(
        "allocation_outbox_oldest_seconds",
        f"Age of the oldest effect that waits and is not dead, of the first {STREAMS_LOOKED_AT:,} SKUs.",
        ["effect"],
        {(backlog.effect,): backlog.oldest or 0.0 for backlog in waiting.backlogs},
    )
    yield _gauge(
        "allocation_dead_effects",
        f"Effects that were given up, each of which holds back its SKU, of the first {STREAMS_LOOKED_AT:,} SKUs.",
        ["effect"],
        {(backlog.effect,): backlog.dead for backlog in waiting.backlogs},
    )
    about = f"Messages from outside that were given up, up to {COUNTED:,}."
    yield _gauge("allocation_dead_messages", about, [], {(): waiting.dead_messages})


def _of_commands(lag: Lag) -> Iterator[GaugeMetricFamily]:
    yield _gauge(
        "allocation_commands_unread", "Commands in the Redis stream that nobody has read.", [], {(): lag.unread}
    )
    yield _gauge("allocation_commands_pending", "Commands read and not done yet.", [], {(): lag.pending})
    about = "Age of the oldest command in the Redis stream that is not done."
    yield _gauge("allocation_commands_oldest_seconds", about, [], {(): lag.oldest or 0.0})


def _gauge(name: str, about: str, labels: Sequence[str], values: dict[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family
