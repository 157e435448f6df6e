"""The log of what happened. Two writers of one version of a stream can't both commit: that is the optimistic lock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Text, and_, cast, select

from messaging.codec import Codec, JsonObject
from messaging.envelope import Metadata, Recorded
from messaging.errors import UnreadableMessage
from messaging.sql import tables
from messaging.sql.statements import Ask, Query, Row, Statement, compiled, insert_rows, rows_of

_APPEND = insert_rows(
    tables.event_log,
    "stream",
    "version",
    "id",
    "type",
    "data",
    "correlation_id",
    "causation_id",
    "source",
    "time",
    "effects",
    "principal",
)


_places = rows_of(tables.event_log.c.stream, tables.event_log.c.version)
_ID = compiled(
    select(tables.event_log.c.id)
    .select_from(_places)
    .join(
        tables.event_log,
        and_(tables.event_log.c.stream == _places.c.stream, tables.event_log.c.version == _places.c.version),
    )
)
_streams = rows_of(tables.event_log.c.stream)
_HISTORY = compiled(
    select(tables.event_log.c.type, cast(tables.event_log.c.data, Text))
    .select_from(_streams)
    .join(tables.event_log, tables.event_log.c.stream == _streams.c.stream)
    .order_by(tables.event_log.c.version)
)


class SqlEventLog:
    def __init__(self, ask: Ask, codec: Codec) -> None:
        self._ask = ask
        self._codec = codec
        self._rows: list[Row] = []

    def append(self, recorded: Recorded[object], effects: Iterable[str]) -> None:
        name, data = self._codec.encode(recorded.event)
        metadata = recorded.metadata
        self._rows.append(
            {
                "stream": recorded.stream,
                "version": recorded.version,
                "id": metadata.id,
                "type": name,
                "data": data,
                "correlation_id": metadata.correlation_id,
                "causation_id": metadata.causation_id,
                "source": metadata.source,
                "time": metadata.time,
                "effects": list(effects),
                "principal": metadata.principal,
            }
        )

    def has(self, recorded: Recorded[object]) -> bool:
        """Whoever took its version meanwhile has given it another id."""
        found = self._ask(Query(_ID, [{"stream": recorded.stream, "version": recorded.version}]))
        return [str(row_id) for (row_id,) in found[_ID]] == [recorded.metadata.id]

    def history(self, stream: str) -> list[object]:
        """The events of a stream, as this transaction sees them. Raises UnreadableMessage."""
        found = self._ask(Query(_HISTORY, [{"stream": stream}]))
        return [self._codec.decode(name, data_from(data)) for name, data in found[_HISTORY]]

    def statements(self) -> Iterable[Statement]:
        yield _APPEND, self._rows


RECORDED = """
    id, type, CAST(data AS text) AS data, correlation_id, causation_id, source, CAST(time AS text) AS time, principal
"""
"""Columns of the log for `recorded_from`. What the driver can't read, such as a time without end, would fail for all
rows that are fetched with it; as text it fails for its own."""


def recorded_from(row: Any, codec: Codec) -> Recorded[object]:
    """The event in a row of the log. Raises UnreadableMessage."""
    if row.id is None:
        raise UnreadableMessage(f"the log has no version {row.version} of {row.stream}")
    time = time_from(row.time)
    metadata = Metadata(str(row.id), row.correlation_id, row.causation_id, row.source, time, row.principal)
    return Recorded(row.stream, row.version, codec.decode(row.type, data_from(row.data)), metadata)


def time_from(text: str) -> datetime:
    """Raises UnreadableMessage."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableMessage(f"time: {text!r} is no time that can be used") from error


def data_from(text: str) -> JsonObject:
    """Raises UnreadableMessage."""
    try:
        data: JsonObject = from_json(text)  # whether it is one the codec will say
    except ValueError as error:
        raise UnreadableMessage(f"data: {error}") from error
    return data
