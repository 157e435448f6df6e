"""Counts and times for Prometheus: what this process does, written where every process of the machine can read it.

With PROMETHEUS_MULTIPROC_DIR set when the process starts, the numbers lie in files of that folder, one set for each
process, and whoever is asked adds them up. Labels are names from our own code, never a caller's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from sqlalchemy import Engine, event

from allocation.observability.metrics_folder import FOLDER
from messaging.envelope import LEFT_OUT, Delivery, Outcome, Recorded, Request
from messaging.errors import (
    ConcurrencyConflict,
    ConflictRetriesExhausted,
    Disconnected,
    IsLong,
    MessageIdReused,
    OutcomeUnknown,
    RequestInProgress,
    Unavailable,
)
from messaging.observation import DeliveryEnded, HandlingEnded, Observer

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_WAITS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5)
_TOGETHER = (1, 2, 5, 10, 20, 50)

_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (ConflictRetriesExhausted, "overtaken"),
    (Unavailable, "unavailable"),
    (MessageIdReused, "message_id_reused"),
    (RequestInProgress, "still_running"),
)
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (ConcurrencyConflict, "conflict"),
    (Disconnected, "disconnected"),
    (OutcomeUnknown, "outcome_unknown"),
    (RequestInProgress, "still_running"),
)


class Metrics(Observer):
    """One for a process: two would write over each other's numbers. Outside of tests it is `metrics()`."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "allocation_http_request_duration_seconds",
            "Time to answer a request, from when a thread took it.",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._waits = Histogram(
            "allocation_http_wait_seconds",
            "Time for which a request waited for a thread.",
            buckets=_WAITS,
            registry=registry,
        )
        self._shed = Counter(
            "allocation_http_shed_total",
            "Requests refused because they had waited too long for a thread.",
            registry=registry,
        )
        self._commands = Counter(
            "allocation_commands_total",
            "Commands by how they ended.",
            ["command", "outcome"],
            registry=registry,
        )
        self._together = Histogram(
            "allocation_transaction_commands",
            "How many commands shared a transaction.",
            buckets=_TOGETHER,
            registry=registry,
        )
        self._retries = Counter(
            "allocation_transaction_retries_total",
            "Transactions run again, by reason: lost to another writer, or cut off from the database.",
            ["reason"],
            registry=registry,
        )
        self._events = Counter(
            "allocation_events_total",
            "Events committed.",
            ["event"],
            registry=registry,
        )
        self._replies_given_up = Counter(
            "allocation_replies_given_up_total",
            "Outcomes of commands that could not be sent to the stream that was named for them.",
            registry=registry,
        )
        self._effects = Counter(
            "allocation_effects_total",
            "Effects that a relay tried to carry out, by how that ended.",
            ["effect", "outcome"],
            registry=registry,
        )
        self._effect_seconds = Histogram(
            "allocation_effect_duration_seconds",
            "Time to carry out an effect once, for as many events as it took together.",
            ["effect"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._connections = Gauge(
            "allocation_db_connections_in_use",
            "Database connections in use.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._most_connections = Gauge(
            "allocation_db_connections_limit",
            "Database connections that the pool may have, but for the one of commands that move many lines.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        # What `labels` returns, looked up without its lock and its checks.
        self._of_request: dict[tuple[str, str, int], Callable[[float], None]] = {}
        self._of_command: dict[tuple[type, str], Callable[[], None]] = {}
        self._of_event: dict[type, Callable[[], None]] = {}

    # --- the machinery's observer ------------------------------------------------

    def handling(self, requests: Sequence[Request]) -> HandlingEnded:
        return partial(self._handled, requests)

    def _handled(self, requests: Sequence[Request], ended: list[Outcome] | BaseException) -> None:
        if isinstance(ended, IsLong):
            return  # it runs again, apart
        if isinstance(ended, BaseException):
            if len(requests) == 1 or isinstance(ended, Unavailable):  # else each runs again, alone
                for request in requests:
                    self._ended(request, _name(ended, _FAILURES, "fault"))
            return
        self._together.observe(len(requests))
        for request, outcome in zip(requests, ended, strict=True):
            if outcome is LEFT_OUT or isinstance(outcome.refusal, RequestInProgress):
                continue  # it runs again, in another transaction
            if outcome.refusal is None:
                self._ended(request, "done" if outcome.changed else "unchanged")
            else:
                self._ended(request, _name(outcome.refusal, _FAILURES, "refused"))

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        for one in recorded:
            kind = type(one.event)
            count = self._of_event.get(kind)
            if count is None:
                count = self._of_event[kind] = self._events.labels(kind.__name__).inc
            count()

    def again(self, error: BaseException) -> None:
        self._retries.labels(_name(error, _REASONS, "other")).inc()

    def reply_given_up(self) -> None:
        self._replies_given_up.inc()

    def delivering(self, effect: str, deliveries: Sequence[Delivery[object]]) -> DeliveryEnded:
        return partial(self._delivered, effect, deliveries, time.perf_counter())

    def _delivered(
        self,
        effect: str,
        deliveries: Sequence[Delivery[object]],
        begun: float,
        ended: Mapping[str, Exception] | BaseException,
    ) -> None:
        self._effect_seconds.labels(effect).observe(time.perf_counter() - begun)
        failed = (
            len(deliveries)
            if isinstance(ended, BaseException)
            else sum(delivery.recorded.stream in ended for delivery in deliveries)
        )
        if done := len(deliveries) - failed:
            self._effects.labels(effect, "done").inc(done)
        if failed:
            self._effects.labels(effect, "failed").inc(failed)

    def _ended(self, request: Request, how: str) -> None:
        key = type(request.command), how
        count = self._of_command.get(key)
        if count is None:
            count = self._of_command[key] = self._commands.labels(key[0].__name__, how).inc
        count()

    # --- what entrypoints and the pool report ---------------------------------------

    def answered(self, method: str, route: str, status: int, seconds: float, waited: float) -> None:
        key = method, route, status
        observe = self._of_request.get(key)
        if observe is None:
            observe = self._of_request[key] = self._requests.labels(method, route, str(status)).observe
        observe(seconds)
        self._waits.observe(waited)

    def shed(self) -> None:
        self._shed.inc()

    def watch_pool(self, engine: Engine, most: int) -> None:
        """Count the connections of this engine's pool that are out."""
        self._most_connections.inc(most)
        event.listen(engine, "checkout", lambda *_: self._connections.inc())
        event.listen(engine, "checkin", lambda *_: self._connections.dec())


@cache
def metrics() -> Metrics:
    """Those of this process."""
    return Metrics()


def of_all_processes(own: Metrics) -> Any:
    """A collector of what all processes that share the folder have counted; without one, of this process alone."""
    folder = shared_folder()
    if not folder:
        return own.registry
    forget_the_dead(folder)
    return MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]  # the library has it so


def shared_folder() -> Path | None:
    """Where it is; None when it is gone, or was never there."""
    folder = os.environ.get(FOLDER)
    return Path(folder) if folder and Path(folder).is_dir() else None


def forget_the_dead(folder: Path) -> None:
    """What a process had in use it no longer has when it is gone; what it has counted stays counted."""
    for pid in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*_*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # the library has it so
        except PermissionError:  # it lives, as somebody else
            pass


def _name(error: BaseException, names: Sequence[tuple[type[BaseException], str]], otherwise: str) -> str:
    return next((name for kind, name in names if isinstance(error, kind)), otherwise)
