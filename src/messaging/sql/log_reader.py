"""Reads the log for those outside, in the order of commits: whoever goes on from what was read last misses nothing.

Sequence numbers commit out of order, transaction ids do too. But what is older than the oldest transaction still open
is complete: so only that is returned, in the order of transactions. One stream needs no such care: its versions are
committed one after the other.

A row that is damaged, its time without end or its data too deep, is passed over, and the log of the process says so.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, TextClause, text

from messaging.errors import MessagingError, UnreadableMessage
from messaging.sql.connections import Database
from messaging.sql.event_log import data_from, time_from

_logger = logging.getLogger(__name__)

SLACK = timedelta(seconds=10)
"""The time of an event is that of the process that recorded it: so much may it be out of the order of commits."""


class UnknownPosition(MessagingError):
    def __init__(self) -> None:
        super().__init__("the log has no such event")


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where somebody is in the log: at this event. A log that was restored may have another one there: with an `id`
    that is found out."""

    stream: str
    version: int
    id: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as the log has it; `type` is its wire name."""

    id: str
    type: str
    stream: str
    version: int
    time: datetime
    correlation_id: str
    causation_id: str | None
    principal: str | None
    data: dict[str, Any]

    @property
    def place(self) -> LogPosition:
        return LogPosition(self.stream, self.version, self.id)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events. Those about a `subject` are found by the expression that the reader was made with."""

    stream: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class SqlLogReader:
    """`subject` is the SQL of what some events are about; there is an index on it."""

    def __init__(self, database: Database, subject: str) -> None:
        self._ask = database.run
        self._of_subject = f"{subject} = :subject"
        self._knows = text(_KNOWS.format(of_subject=self._of_subject))

    def read(self, wanted: EventFilter, after: LogPosition | None, most: int) -> list[LoggedEvent]:
        """The next events. Raises UnknownPosition and Unavailable."""
        found: list[LoggedEvent] = []
        while len(found) < most:
            missing = most - len(found)
            rows = self._ask(self._rows, wanted, after, missing)
            found += _readable(rows)
            if len(rows) < missing:
                break
            after = LogPosition(rows[-1].stream, rows[-1].version)
        return found

    def knows(self, subject: str) -> bool:
        """Whether there is anything to `read` about it. Raises Unavailable."""
        return self._ask(lambda log: bool(log.execute(self._knows, {"subject": subject}).scalar_one()))

    def latest(self, most: int) -> list[LoggedEvent]:
        """The newest events that nothing can come before any more, the oldest of them first. Raises Unavailable."""
        return _readable(self._ask(lambda log: _entries(log, _LATEST, EventFilter(), most=most)))[::-1]

    def _rows(self, log: Connection, wanted: EventFilter, after: LogPosition | None, most: int) -> Sequence[Any]:
        if wanted.subject is not None:
            return self._about_subject(log, wanted, after, most)
        if wanted.stream is not None:
            return self._of_stream(log, wanted.stream, wanted, after, most)
        return self._of_all(log, wanted, after, most)

    def _of_stream(
        self, log: Connection, stream: str, wanted: EventFilter, after: LogPosition | None, most: int
    ) -> Sequence[Any]:
        if after and after.stream != stream:
            raise UnknownPosition
        if after and after.id:
            _order(log, after)

        def time_of(version: int) -> datetime:
            time: datetime = log.execute(_TIME_OF_VERSION, {"stream": stream, "version": version}).scalar() or _NEVER
            return time

        versions = range(1, log.execute(_LAST_VERSION, {"stream": stream}).scalar_one() + 1)
        first, end = _span(versions, time_of, wanted)
        first = max(first, after.version + 1 if after else 1)
        return _entries(log, _STREAM, wanted, stream=stream, first=first, end=end, most=most)

    def _of_all(self, log: Connection, wanted: EventFilter, after: LogPosition | None, most: int) -> Sequence[Any]:
        def time_of(transaction: int) -> datetime:
            time: datetime = log.execute(_TIME_OF_TRANSACTION, {"transaction": transaction}).scalar() or _NEVER
            return time

        lowest, highest = log.execute(_TRANSACTIONS).one()
        if lowest is None:
            return []
        first, end = _span(range(max(lowest, -_FAR), min(highest, _FAR) + 1), time_of, wanted)
        transaction, position = max(_order(log, after), (first - 1, _LAST_POSITION))
        return _entries(log, _ALL, wanted, transaction=transaction, position=position, end=end, most=most)

    def _about_subject(
        self, log: Connection, wanted: EventFilter, after: LogPosition | None, most: int
    ) -> Sequence[Any]:
        transaction, position = _order(log, after)
        about = text(_SUBJECT.format(of_subject=self._of_subject))
        parameters = {"subject": wanted.subject, "stream": wanted.stream, "most": most}
        return _entries(log, about, wanted, transaction=transaction, position=position, **parameters)


def _span(places: range, time_of: Callable[[int], datetime], wanted: EventFilter) -> tuple[int, int]:
    """Where the wanted time begins and ends, a little generously: time runs with the log, so halving finds it."""
    first, end = 0, len(places)
    if wanted.since:
        first = bisect_left(places, wanted.since, key=lambda place: time_of(place) + SLACK)
    if wanted.until:
        end = bisect_left(places, wanted.until, key=lambda place: time_of(place) - SLACK)
    return places.start + first, places.start + end


def _order(log: Connection, place: LogPosition | None) -> tuple[int, int]:
    """What the log is ordered by, transaction and position: of this place, or before all."""
    if place is None:
        return _BEFORE_ALL
    found = log.execute(_ORDER_OF, {"stream": place.stream, "version": place.version}).one_or_none()
    if found is None or place.id not in (None, str(found.id)):
        raise UnknownPosition
    return found.transaction_id, found.position


def _entries(log: Connection, statement: TextClause, wanted: EventFilter, **parameters: object) -> Sequence[Any]:
    times: Mapping[str, object] = {"since": wanted.since, "until": wanted.until}
    return log.execute(statement, {**times, **parameters}).all()


def _readable(rows: Sequence[Any]) -> list[LoggedEvent]:
    found = []
    for row in rows:
        try:
            time, data = time_from(row.time_in_words).astimezone(UTC), data_from(row.data)
        except (UnreadableMessage, OverflowError) as error:
            about = {"stream": row.stream, "version": row.version, "error": str(error)}
            _logger.error("the log holds what can't be read", extra=about)  # noqa: TRY400 - it says all
            continue
        of_it = row.correlation_id, row.causation_id, row.principal
        found.append(LoggedEvent(str(row.id), row.type, row.stream, row.version, time, *of_it, data))
    return found


_ENTRY = """
    id, type, stream, version, CAST(time AS text) AS time_in_words, correlation_id, causation_id, principal,
    CAST(data AS text) AS data
"""
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
_IS_TIME = "time BETWEEN '0002-01-01' AND '9998-12-31'"
_IN_TIME = """
    (CAST(:since AS timestamptz) IS NULL OR time >= :since) AND (CAST(:until AS timestamptz) IS NULL OR time < :until)
"""
# What is visible and younger than every transaction there was has come from another server, by a restore.
_COMPLETE = """
    (transaction_id < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)
     OR transaction_id >= CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint))
"""
_BEFORE_ALL = (-(2**63), 0)
_LAST_POSITION = 2**63 - 1
_FAR = 2**61
"""What is beyond it, or so far below zero, is damaged, and more than can be halved."""

_STREAM = text(f"""
    SELECT {_ENTRY} FROM event_log
    WHERE stream = :stream AND version >= :first AND version < :end AND {_IN_TIME}
    ORDER BY version LIMIT :most
""")  # noqa: S608 - all of it is our own
_LAST_VERSION = text("SELECT coalesce(max(version), 0) FROM event_log WHERE stream = :stream")
_TIME_OF_VERSION = text(f"""
    SELECT time FROM event_log WHERE stream = :stream AND version >= :version AND {_IS_TIME} ORDER BY version LIMIT 1
""")  # noqa: S608 - all of it is our own

_ALL = text(f"""
    SELECT {_ENTRY} FROM event_log
    WHERE (transaction_id, position) > (:transaction, :position) AND transaction_id < :end
      AND {_COMPLETE} AND {_IN_TIME}
    ORDER BY transaction_id, position LIMIT :most
""")  # noqa: S608 - all of it is our own
_LATEST = text(f"""
    SELECT {_ENTRY} FROM event_log WHERE {_COMPLETE} AND {_IN_TIME}
    ORDER BY transaction_id DESC, position DESC LIMIT :most
""")  # noqa: S608 - all of it is our own
_TRANSACTIONS = text("SELECT min(transaction_id), max(transaction_id) FROM event_log")
_TIME_OF_TRANSACTION = text(f"""
    SELECT time FROM event_log WHERE transaction_id >= :transaction AND {_IS_TIME}
    ORDER BY transaction_id, position LIMIT 1
""")  # noqa: S608 - all of it is our own
_ORDER_OF = text("SELECT transaction_id, position, id FROM event_log WHERE stream = :stream AND version = :version")

# All about one subject, and only then in order: else the planner may read the whole log in order to find them.
_SUBJECT = f"""
    WITH about_it AS MATERIALIZED (SELECT * FROM event_log WHERE {{of_subject}})
    SELECT {_ENTRY} FROM about_it
    WHERE (transaction_id, position) > (:transaction, :position) AND {_COMPLETE} AND {_IN_TIME}
      AND (CAST(:stream AS text) IS NULL OR stream = :stream)
    ORDER BY transaction_id, position LIMIT :most
"""  # noqa: S608 - all of it is our own
# Nobody asks for more than the first of them, so no more is read, however many there are.
_KNOWS = f"""
    WITH about_it AS MATERIALIZED (SELECT transaction_id FROM event_log WHERE {{of_subject}})
    SELECT EXISTS (SELECT FROM about_it WHERE {_COMPLETE})
"""  # noqa: S608 - all of it is our own
