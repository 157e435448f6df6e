"""Effects waiting for the relay: a row is there until its effect is done. The event itself is read from the log."""

from __future__ import annotations

from collections.abc import Iterable

from messaging.envelope import Recorded
from messaging.sql import tables
from messaging.sql.statements import Row, Statement, insert_rows

_POST = insert_rows(tables.outbox, "effect", "stream", "version")


class SqlOutbox:
    def __init__(self) -> None:
        self._rows: list[Row] = []

    def post(self, recorded: Recorded[object], effect: str) -> None:
        self._rows.append({"effect": effect, "stream": recorded.stream, "version": recorded.version})

    def statements(self) -> Iterable[Statement]:
        yield _POST, self._rows
