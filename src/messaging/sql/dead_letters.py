"""What was given up is kept, with the reason, until someone decides: messages from outside, and effects.

A message is a row of its own, as it came. An effect stays where it is, in the outbox, and holds its stream, so that
order is kept whatever is decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, Select, Text, cast, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from messaging.errors import UnreadableMessage
from messaging.sql import tables
from messaging.sql.connections import Database, connection
from messaging.sql.event_log import data_from, time_from

_letters, _outbox, _log = tables.dead_letters, tables.outbox, tables.event_log

_EVENT = ("id", "type", "data", "correlation_id", "causation_id", "source", "time", "principal")
_AS_TEXT = {"data", "time"}
"""What may be damaged is read as text, so that it is shown and not in the way."""

# What is dropped counts as delivered, so that what comes after it may be; the drop itself is kept for good.
_DROP_EFFECT = text("""
    WITH dropped AS (
        DELETE FROM outbox WHERE effect = :effect AND stream = :stream AND version = :version AND dead_at IS NOT NULL
        RETURNING effect, stream, version, reason
    ), noted AS (
        INSERT INTO dropped_effects (effect, stream, version, reason, dropped_by)
        SELECT effect, stream, version, reason, :by FROM dropped
    )
    UPDATE deliveries SET delivered_count = delivered_count + 1, delivered_version = dropped.version
    FROM dropped WHERE deliveries.effect = dropped.effect AND deliveries.stream = dropped.stream
""")


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """A message from outside, as it came, and why it could not be handled."""

    number: int
    source: str
    body: bytes
    reason: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime

    @property
    def id(self) -> str:
        return f"message:{self.number}"


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first bytes of a DeadMessage, to be shown, and how many there are."""

    number: int
    source: str
    body: bytes
    size: int
    reason: str
    attempts: int
    last_failed_at: datetime

    @property
    def id(self) -> str:
        return f"message:{self.number}"


@dataclass(frozen=True, slots=True)
class DeadEffect:
    """An effect of one event, the first that waits in its stream, and why it could not be carried out.

    `event` is what the log has of it, readable or not; empty when it has nothing.
    """

    effect: str
    stream: str
    version: int
    reason: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    waiting_behind: int
    event: dict[str, Any]

    @property
    def id(self) -> str:
        return f"effect:{self.effect}:{self.version}:{self.stream}"


DeadLetter: TypeAlias = DeadMessage | DeadEffect

# A stream may be named in any way that the database can store; so it comes last.
_MESSAGE_ID = re.compile(r"message:(\d{1,18})", re.ASCII)
_EFFECT_ID = re.compile(r"effect:([^:\0\ud800-\udfff]+):(\d{1,18}):([^\0\ud800-\udfff]+)", re.ASCII)


class SqlDeadLetters:
    """All of it raises Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def store(self, *, source: str, body: bytes, reason: str, message_id: str | None = None, attempts: int = 1) -> None:
        """Keep a message; one with a `message_id` once, however often it is buried."""
        row = {"source": source, "message_id": message_id, "body": body, "reason": reason, "attempts": attempts}
        with self._transaction() as transaction:
            transaction.execute(insert(_letters).values(row).on_conflict_do_nothing())

    def find(self, letter_id: str) -> DeadLetter | None:
        """The one with this id, if it is there and has not been dealt with."""
        found: Sequence[DeadLetter] = ()
        if match := _MESSAGE_ID.fullmatch(letter_id):
            found = self._messages(number=int(match[1]))
        elif match := _EFFECT_ID.fullmatch(letter_id):
            found = self._effects(key=(match[1], match[3], int(match[2])))
        return found[0] if found else None

    def messages(self) -> list[DeadMessage]:
        """The oldest first."""
        return self._messages()

    def beginnings(self, most: int, longest: int) -> list[Beginning]:
        """Of the oldest messages, `most` of them; `longest` bytes of each."""
        columns = (
            _letters.c.id,
            _letters.c.source,
            func.substring(_letters.c.body, 1, longest),
            func.octet_length(_letters.c.body),
            _letters.c.reason,
            _letters.c.attempts,
            _letters.c.last_failed_at,
        )
        query = select(*columns).order_by(_letters.c.id).limit(most)
        return [Beginning(*row) for row in self._rows(query)]

    def effects(self, most: int | None = None) -> list[DeadEffect]:
        """The oldest first; `most` of them, if so many."""
        return self._effects(most)

    def resolve(self, letter: DeadMessage) -> None:
        """Forget a message: it was handled after all, or dropped."""
        with self._transaction() as transaction:
            transaction.execute(delete(_letters).where(_letters.c.id == letter.number))

    def fail_again(self, letter: DeadMessage, reason: str) -> None:
        with self._transaction() as transaction:
            transaction.execute(
                update(_letters)
                .where(_letters.c.id == letter.number)
                .values(reason=reason, attempts=_letters.c.attempts + 1, last_failed_at=func.now())
            )

    def retry_effect(self, letter: DeadEffect) -> None:
        """Have the relay try it again, at once and as if it had never failed for its own sake."""
        with self._transaction() as transaction:
            transaction.execute(
                update(_outbox)
                .where(_outbox.c.effect == letter.effect, _outbox.c.stream == letter.stream)
                .where(_outbox.c.version == letter.version, _outbox.c.dead_at.is_not(None))
                .values(dead_at=None, retry_at=None, faults=0)
            )

    def drop_effect(self, letter: DeadEffect, by: str) -> None:
        """Let the effect never happen, and those behind it go on; who dropped it is kept for good."""
        about = {"effect": letter.effect, "stream": letter.stream, "version": letter.version, "by": by}
        with self._transaction() as transaction:
            transaction.execute(_DROP_EFFECT, about)

    def _messages(self, number: int | None = None) -> list[DeadMessage]:
        columns = (
            _letters.c.id.label("number"),
            _letters.c.source,
            _letters.c.body,
            _letters.c.reason,
            _letters.c.attempts,
            _letters.c.first_failed_at,
            _letters.c.last_failed_at,
        )
        query = select(*columns).order_by(_letters.c.id)
        if number is not None:
            query = query.where(_letters.c.id == number)
        return [DeadMessage(*row) for row in self._rows(query)]

    def _effects(self, most: int | None = None, key: tuple[str, str, int] | None = None) -> list[DeadEffect]:
        """`key`: an effect, a stream and a version."""
        behind = _outbox.alias("behind")
        waiting = (
            select(func.count())
            .where(behind.c.effect == _outbox.c.effect, behind.c.stream == _outbox.c.stream)
            .where(behind.c.version > _outbox.c.version)
            .scalar_subquery()
            .label("waiting_behind")
        )
        columns = (
            _outbox.c.effect,
            _outbox.c.stream,
            _outbox.c.version,
            _outbox.c.reason,
            _outbox.c.attempts,
            _outbox.c.first_failed_at,
            _outbox.c.last_failed_at,
            waiting,
            *(cast(_log.c[name], Text).label(name) if name in _AS_TEXT else _log.c[name] for name in _EVENT),
        )
        its_event = (_log.c.stream == _outbox.c.stream) & (_log.c.version == _outbox.c.version)
        dead = select(*columns).outerjoin_from(_outbox, _log, its_event)
        oldest_first = dead.where(_outbox.c.dead_at.is_not(None)).order_by(_outbox.c.dead_at).limit(most)
        if key is not None:
            oldest_first = oldest_first.where(tuple_(_outbox.c.effect, _outbox.c.stream, _outbox.c.version) == key)
        return [
            DeadEffect(
                effect=row.effect,
                stream=row.stream,
                version=row.version,
                reason=row.reason,
                attempts=row.attempts,
                first_failed_at=row.first_failed_at,
                last_failed_at=row.last_failed_at,
                waiting_behind=row.waiting_behind,
                event=_event(row),
            )
            for row in self._rows(oldest_first)
        ]

    def _rows(self, query: Select[Any]) -> Sequence[Any]:
        return self._database.run(lambda open_connection: open_connection.execute(query).all())

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with connection(self._database.engine, "READ COMMITTED") as open_connection, open_connection.begin():
            yield open_connection


def _event(row: Row[Any]) -> dict[str, Any]:
    """What can't be read stays text."""
    if not row.id:
        return {}
    event = {name: getattr(row, name) for name in _EVENT}
    with suppress(UnreadableMessage):
        event["time"] = time_from(row.time).isoformat()
    with suppress(UnreadableMessage):
        event["data"] = data_from(row.data)
    return event
