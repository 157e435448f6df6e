"""The log of what happened. Two writers of one version of a stream can't both commit: that is the optimistic lock."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Row, select

from messaging.codec import Codec
from messaging.envelope import Metadata, Recorded
from messaging.errors import UnreadableMessage
from messaging.sql import tables
from messaging.sql.statements import Statement, arrays_of, insert_rows

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
)


class SqlEventLog:
    def __init__(self, open_connection: Connection, codec: Codec) -> None:
        self._connection = open_connection
        self._codec = codec
        self._rows: list[dict[str, object]] = []

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
            }
        )

    def history(self, stream: str) -> list[object]:
        """The events of a stream, as this transaction sees them. Raises UnreadableMessage."""
        in_order = select(tables.event_log).where(tables.event_log.c.stream == stream).order_by("version")
        return [recorded_from(row, self._codec).event for row in self._connection.execute(in_order)]

    def statements(self) -> Iterable[Statement]:
        if self._rows:
            yield _APPEND, arrays_of(self._rows)


def recorded_from(row: Row[tuple[object, ...]], codec: Codec) -> Recorded[object]:
    """The event in a row of the log. Raises UnreadableMessage."""
    if row.id is None:
        raise UnreadableMessage(f"the log has no version {row.version} of {row.stream}")
    metadata = Metadata(str(row.id), row.correlation_id, row.causation_id, row.source, row.time)
    return Recorded(row.stream, row.version, codec.decode(row.type, row.data), metadata)
