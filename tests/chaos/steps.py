"""Where a process can be killed or frozen: the seams of each part, wrapped from outside, unknown to production code.

A step is passed many times. Whoever passes it looks whether an order for it has been left, and obeys.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from threading import Lock, local
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

SERVE = {
    "command-received": "a request was read; nothing is done",
    "handled-before-write": "the handlers are done; nothing is written",
    "written-before-commit": "everything is written; COMMIT is not sent",
    "commit-sent-before-reply": "COMMIT is sent; its reply is not waited for",
    "committed-before-answer": "committed; the client has no answer",
}
RELAY = {
    "claim-committed": "streams are claimed; their messages are not read",
    "messages-read": "messages are read; nothing is published",
    "read-before-telling": "about to publish an event",
    "told-before-mark": "an event is published; nothing is recorded",
    "mailed-before-mark": "a mail is sent; nothing is recorded",
    "mark-written-before-commit": "what was published is recorded; COMMIT is not sent",
    "mark-sent-before-reply": "COMMIT of that is sent; its reply is not waited for",
    "marked": "what was published is recorded",
    "due-written-before-commit": "the clock has written what is over; COMMIT is not sent",
    "due-sent-before-reply": "COMMIT of what is over is sent; its reply is not waited for",
}
CONSUME = {
    "inbound-read": "messages are pending with us; nothing is done",
    "inbound-handled-before-write": "the handlers are done; nothing is written",
    "inbound-written-before-commit": "everything is written; COMMIT is not sent",
    "inbound-commit-sent-before-reply": "COMMIT is sent; its reply is not waited for",
    "inbound-committed-before-ack": "committed; not acknowledged to Redis",
    "inbound-acknowledged": "acknowledged to Redis; nothing else is done",
    "refused-before-burying": "a message was refused; it is not a dead letter yet",
    "buried-before-ack": "a dead letter is kept; not acknowledged to Redis",
}
SELDOM = {"due-written-before-commit", "due-sent-before-reply"}
"""Once a second at most, when anything is due."""

PARTS = {"serve": SERVE, "relay": RELAY, "consume": CONSUME}

# Passed only after something else has happened.
AFTER_A_LOSS = {"told-again": "some of what Redis has forgotten was published again; the rest was not"}
AFTER_A_CRASH = {"pending-read": "what another had read and not acknowledged was read again; nothing is done"}

MEANINGS = SERVE | RELAY | CONSUME | AFTER_A_LOSS | AFTER_A_CRASH
PART_OF = (
    dict.fromkeys(SERVE, "serve")
    | dict.fromkeys([*RELAY, *AFTER_A_LOSS], "relay")
    | dict.fromkeys([*CONSUME, *AFTER_A_CRASH], "consume")
)


class Orders:
    """A file of lines `STEP NUMBER SIGNAL`: the NUMBER-th time that STEP is passed, send yourself SIGNAL. A line is for
    one process, the next line for the one that takes its place. Beside it, the moments when a line was obeyed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._obeyed = file.with_suffix(".obeyed")
        self._passed = 0
        self._lock = Lock()

    def give(self, *orders: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text("\n".join(orders))
        fresh.replace(self._file)

    def obeyed(self) -> list[float]:
        return [float(moment) for moment in self._obeyed.read_text().split()] if self._obeyed.exists() else []

    def passed(self, step: str, just_before: Callable[[], object] = lambda: None) -> None:
        try:
            first, *others = self._file.read_text().splitlines()
        except (FileNotFoundError, ValueError):
            return
        wanted, number, which = first.split()
        if wanted != step:
            return
        with self._lock:
            self._passed += 1
            if self._passed < int(number):
                return
            self._passed = 0
            self.give(*others)
            with self._obeyed.open("a") as file:
                file.write(f"{time.time()}\n")
            just_before()
            os.killpg(0, signal.Signals[which])  # an API's parent and workers together
            time.sleep(0.05)  # a stop may reach the other threads first


def instrument(part: str, orders: Orders) -> None:
    """Wrap the seams of this process, which is to run one part."""
    {"serve": _instrument_api, "relay": _instrument_relay, "consume": _instrument_consumer}[part](orders)


def _instrument_api(orders: Orders) -> None:
    from messaging.bus import MessageBus
    from messaging.sql.unit_of_work import SqlTransaction

    around(MessageBus, "handle", orders, before="command-received", after="committed-before-answer")
    around(SqlTransaction, "commit", orders, before="handled-before-write")
    _at_each_commit(orders, "written-before-commit", "commit-sent-before-reply")


def _instrument_relay(orders: Orders) -> None:
    from allocation.adapters.notifications import FileNotifications
    from allocation.adapters.redis_eventpublisher import RedisEventPublisher
    from messaging.redis.event_stream import EventStream
    from messaging.sql.deliveries import SqlDeliveries

    around(SqlDeliveries, "claim", orders, after_something="messages-read")
    _after_the_claim(SqlDeliveries, orders)
    around(RedisEventPublisher, "publish", orders, before="read-before-telling", after="told-before-mark")
    around(EventStream, "append_all", orders, after="told-again")
    around(FileNotifications, "send", orders, after="mailed-before-mark")
    around(SqlDeliveries, "settle", orders, after="marked")
    _at_commits_in(SqlDeliveries, "settle", orders, "mark-written-before-commit", "mark-sent-before-reply")
    _at_each_commit(orders, "due-written-before-commit", "due-sent-before-reply")


def _instrument_consumer(orders: Orders) -> None:
    from messaging.redis.group import ConsumerGroup
    from messaging.sql.dead_letters import SqlDeadLetters
    from messaging.sql.unit_of_work import SqlTransaction

    around(ConsumerGroup, "new", orders, after_something="inbound-read")
    around(ConsumerGroup, "first_pending", orders, after_something="pending-read")
    around(SqlTransaction, "commit", orders, before="inbound-handled-before-write")
    _at_each_commit(orders, "inbound-written-before-commit", "inbound-commit-sent-before-reply")
    around(ConsumerGroup, "acknowledge", orders, before="inbound-committed-before-ack", after="inbound-acknowledged")
    around(SqlDeadLetters, "store", orders, before="refused-before-burying", after="buried-before-ack")


def around(
    owner: type, name: str, orders: Orders, *, before: str = "", after: str = "", after_something: str = ""
) -> None:
    """Pass a step before a method, after it, or after it when it has returned anything."""
    method = getattr(owner, name)

    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            orders.passed(before)
        result = method(*args, **kwargs)
        if after:
            orders.passed(after)
        if after_something and result:
            orders.passed(after_something)
        return result

    setattr(owner, name, wrapped)


def _within(owner: type, name: str) -> local:
    """`inside` is true for a thread that is in this method."""
    where = local()
    method = getattr(owner, name)

    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        where.inside = True
        try:
            return method(*args, **kwargs)
        finally:
            where.inside = where.claimed = False

    setattr(owner, name, wrapped)
    return where


def _at_each_commit(orders: Orders, before: str, sent: str) -> None:
    """Units of work send their COMMIT themselves, behind what they write, and wait for nothing in between."""
    from messaging.sql.round_trip import RoundTrips

    go = RoundTrips.go

    def send(round_trips: RoundTrips, *statements: Any) -> None:
        with suppress(psycopg.Error):  # who has lost to others is killed all the same
            go(round_trips, *statements)

    @wraps(go)
    def wrapped(round_trips: RoundTrips, *statements: Any) -> Any:
        if statements[-1] == ("COMMIT", ()):
            orders.passed(before, just_before=lambda: send(round_trips, *statements[:-1]))
            orders.passed(sent, just_before=lambda: send(round_trips, *statements))
        return go(round_trips, *statements)

    setattr(RoundTrips, "go", wrapped)  # noqa: B010 - mypy knows that it is a method


def _at_commits_in(owner: type, name: str, orders: Orders, before: str, sent: str) -> None:
    where = _within(owner, name)

    @event.listens_for(Engine, "commit")
    def pass_commit(connection: Connection) -> None:
        if getattr(where, "inside", False):
            orders.passed(before)
            orders.passed(sent, just_before=lambda: _send_commit(connection))


def _send_commit(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.pgconn.send_query(b"COMMIT")
    while driver.pgconn.flush():
        pass


def _after_the_claim(deliveries: type, orders: Orders) -> None:
    """The claim is one statement and the reading of its messages the next: between the two."""
    where = _within(deliveries, "claim")

    @event.listens_for(Engine, "after_cursor_execute")
    def note_claim(connection: Connection, cursor: Any, *_: object) -> None:
        where.claimed = getattr(where, "inside", False) and cursor.rowcount > 0

    @event.listens_for(Engine, "begin")
    def pass_claim(connection: Connection) -> None:
        if getattr(where, "inside", False) and getattr(where, "claimed", False):
            orders.passed("claim-committed")
