"""The messages that were handled, with their outcomes. The primary key is what makes a second one fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from messaging.errors import StillRunning
from messaging.sql import tables
from messaging.sql.statements import Statement, arrays_of, insert_rows
from messaging.unit_of_work import Outcome

_REMEMBER = insert_rows(tables.inbox, "message_id", "fingerprint", "outcome")


class SqlInbox:
    """`refusals` are the domain's errors by their stored names."""

    def __init__(self, connection: Connection, refusals: Mapping[str, type[Exception]]) -> None:
        self._connection = connection
        self._refusals = refusals
        self._names = {kind: name for name, kind in refusals.items()}
        self._rows: list[dict[str, Any]] = []

    def remember(self, message_id: str, fingerprint: str, outcome: Outcome) -> None:
        self._rows.append({"message_id": message_id, "fingerprint": fingerprint, "outcome": self._encode(outcome)})

    def recall(self, message_id: str) -> tuple[str, Outcome] | None:
        for pending in self._rows:  # handled in this very transaction
            if pending["message_id"] == message_id:
                return pending["fingerprint"], self._decode(pending["outcome"])
        kept = select(tables.inbox.c.fingerprint, tables.inbox.c.outcome).where(tables.inbox.c.message_id == message_id)
        # The lock goes with the transaction, so that whoever has it is at work on the message, or was killed.
        ours = self._connection.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(message_id, 0))))
        if row := self._connection.execute(kept).one_or_none():
            return row.fingerprint, self._decode(row.outcome)
        if not ours:
            raise StillRunning(message_id)
        return None

    def statements(self) -> Iterable[Statement]:
        if self._rows:
            yield _REMEMBER, arrays_of(self._rows)

    def _encode(self, outcome: Outcome) -> dict[str, Any]:
        if outcome.refusal is None:
            return {"result": outcome.result}
        return {"refused": self._names[type(outcome.refusal)], "because": str(outcome.refusal)}

    def _decode(self, stored: dict[str, Any]) -> Outcome:
        if "refused" not in stored:
            return Outcome(stored["result"])
        kind = self._refusals[stored["refused"]]
        return Outcome(refusal=kind.__new__(kind, stored["because"]))  # its own __init__ may ask for more than a text
