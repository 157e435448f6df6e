"""Messages from outside that can't be handled: kept as they came, with the reason."""

from __future__ import annotations

from sqlalchemy import Engine, insert

from messaging.sql import tables
from messaging.sql.connections import connection


class SqlDeadLetters:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def bury(self, *, source: str, body: bytes, reason: str, message_id: str | None = None) -> None:
        """Keep the message. Raises Unavailable."""
        row = {"source": source, "message_id": message_id, "body": body, "reason": reason}
        with connection(self._engine, "READ COMMITTED") as open_connection, open_connection.begin():
            open_connection.execute(insert(tables.dead_letters).values(row))
