"""What a round leaves: events as a subscriber hears them, and rows as plain SQL finds them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import redis
from tests.chaos.history import LONG_PAST, Rows, Told
from tests.chaos.meddling import COMMANDS, EVENTS, GROUP, INCARNATION
from tests.chaos.worlds import World

QUERIES = {
    "event_log": "SELECT stream, version, id, type, data, transaction_id FROM event_log WHERE stream LIKE %s",
    "products": "SELECT sku, version_number, waiting, holds FROM products WHERE sku LIKE %s",
    "batches": "SELECT sku, reference, eta::text, initial_quantity, purchased_quantity, allocated_quantity, added,"
    " held_quantity, dispatched_quantity, quarantined_quantity, initial_expires::text, expires::text, overdue, expired"
    " FROM batches WHERE sku LIKE %s",
    "allocations": "SELECT sku, version, orderid, lineid, qty, batchref, dispatched FROM allocations WHERE sku LIKE %s",
    "order_lines": "SELECT orderid, lineid, sku, returned, array_remove(version || others, NULL)"
    " FROM order_lines WHERE sku LIKE %s",
    "allocations_view": "SELECT orderid, lineid, sku, qty, batchref FROM allocations_view WHERE sku LIKE %s",
    "orders": "SELECT orderid FROM orders WHERE cancelled AND orderid LIKE %s",
    "backorders": "SELECT sku, since, orderid, lineid, qty FROM backorders WHERE sku LIKE %s",
    "holds": "SELECT sku, hold_id, qty, batchref, until, version FROM holds WHERE sku LIKE %s",
    "dead_letters": "SELECT body FROM dead_letters WHERE convert_from(body, 'UTF8') LIKE '%%' || %s",
}

DUE = """
    SELECT count(*) FROM (
        SELECT hold_id FROM holds WHERE until <= now() AND sku LIKE %(name)s
        UNION ALL SELECT reference FROM batches WHERE eta <= %(day)s AND NOT overdue AND sku LIKE %(name)s
        UNION ALL SELECT reference FROM batches WHERE expires <= %(day)s AND NOT expired AND sku LIKE %(name)s
    ) AS due
"""
"""What is over by the clock of the database, and not recorded."""


def read_rows(world: World, name: str) -> Rows:
    """Of the round with this name."""
    with world.database() as database, database.transaction():
        database.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return Rows(**{table: database.execute(query, [f"{name}-%"]).fetchall() for table, query in QUERIES.items()})


class Reader:
    """Reads all rows of a round again and again, each time as of one moment."""

    def __init__(self, world: World, name: str) -> None:
        self.moments: list[Rows] = []
        self._world = world
        self._name = name
        self._stop = Event()
        self._thread = Thread(target=self._read, name="reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.wait(0.25):
            with suppress(psycopg.Error):
                self.moments.append(read_rows(self._world, self._name))


class Subscriber:
    """Reads every entry of the stream of events, and keeps those of the round that goes on, in the order read. Where
    the stream was made anew it begins anew."""

    def __init__(self, world: World) -> None:
        self._round, self._read = "", list[Told]()
        self._world = world
        self._stop = Event()
        self._thread = Thread(target=self._listen, name="subscriber", daemon=True)
        self._thread.start()

    def begin(self, name: str) -> None:
        """Of a round. Those of earlier ones come again with every loss in Redis, and are many in the end."""
        self._round, self._read = f"{name}-", []

    def heard(self) -> list[Told]:
        return self._read[:]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _listen(self) -> None:
        last, incarnation = "0", None
        while not self._stop.is_set():
            try:
                with self._world.redis() as client:
                    while not self._stop.is_set():
                        answer: Any = client.xread({EVENTS: last}, count=1_000, block=200)
                        if (now := client.get(INCARNATION)) != incarnation:
                            last, incarnation = "0", now
                            continue
                        for entry, fields in answer[0][1] if answer else []:
                            last = entry.decode()
                            if event := fields.get(b"event"):  # else a stranger's
                                self._keep(Told.read(last, event, time.time()))
            except redis.RedisError:
                time.sleep(0.02)

    def _keep(self, told: Told) -> None:
        if told.sku.startswith(self._round):
            self._read.append(told)


def unfinished(world: World, name: str, subscriber: Subscriber) -> str:
    """What has not come to rest yet, or nothing."""
    try:
        with world.database() as database, world.redis() as client:
            if waits := _what_waits(database, name):
                return waits
            if commands := waiting_commands(client):
                return f"{commands} commands that wait"
            there = logged(world, name)
            if untold := there - {(told.sku, told.version) for told in subscriber.heard()}:
                return f"{len(untold)} events not heard of"
            if gone := there - {(told.sku, told.version) for told in in_the_stream(world, name)}:
                return f"{len(gone)} events that are not in the stream any more"
            return ""
    except (psycopg.Error, redis.RedisError, ValueError) as error:
        return repr(error)


def _what_waits(database: psycopg.Connection, name: str) -> str:
    effects = database.execute("SELECT effect, count(*), max(reason) FROM outbox GROUP BY effect").fetchall()
    if effects:
        return f"effects that wait: {effects}"
    [(due,)] = database.execute(DUE, {"name": f"{name}-%", "day": LONG_PAST}).fetchall()
    return f"{due} holds or batches of which it is not recorded that their time is over" if due else ""


def waiting_commands(client: redis.Redis) -> int:
    """Pending or not read, of ours; what Redis says of the lag can't be relied on when others meddle."""
    groups: Any = client.xinfo_groups(COMMANDS)
    ours: Any = next((group for group in groups if group["name"] == GROUP.encode()), {})
    unread: Any = client.xrange(COMMANDS, b"(" + bytes(ours.get("last-delivered-id", b"0-0")), "+", count=100)
    return len(unread) + int(ours.get("pending", 0))


def in_the_stream(world: World, name: str) -> list[Told]:
    """What one hears who comes late, and reads from the beginning; of the round with this name."""
    with world.redis() as client:
        entries: Any = client.xrange(EVENTS)
    found = (Told.read(entry.decode(), fields[b"event"], 0.0) for entry, fields in entries if b"event" in fields)
    return [told for told in found if told.sku.startswith(f"{name}-")]


def logged(world: World, name: str) -> set[tuple[str, int]]:
    """Stream and version of each event of the round with this name."""
    with world.database() as database:
        query = "SELECT stream, version FROM event_log WHERE stream LIKE %s"
        return {(stream, version) for stream, version in database.execute(query, [f"{name}-%"])}


def mails_in(home: Path) -> dict[str, float]:
    return {file.stem: file.stat().st_mtime for file in (home / "mail").glob("*.eml")}
