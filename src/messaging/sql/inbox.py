"""The messages that were handled, with their outcomes. The primary key is what makes a second one fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, literal_column, select

from messaging.errors import StillRunning
from messaging.sql import tables
from messaging.sql.statements import Ask, Question, Row, Statement, compiled, insert_rows, rows_of
from messaging.unit_of_work import Outcome

_REMEMBER = insert_rows(tables.inbox, "message_id", "fingerprint", "outcome")
_given = rows_of(tables.inbox.c.message_id)
# The lock goes with the transaction, so that whoever has it is at work on the message, or was killed.
_lock = func.hashtextextended(_given.c.message_id, literal_column("0"))
_RECALL = compiled(
    select(
        _given.c.message_id,
        func.pg_try_advisory_xact_lock(_lock).label("is_ours"),
        tables.inbox.c.fingerprint,
        tables.inbox.c.outcome,
    ).select_from(_given.outerjoin(tables.inbox, tables.inbox.c.message_id == _given.c.message_id))
)


class SqlInbox:
    """`refusals` are the domain's errors by their stored names."""

    def __init__(self, ask: Ask, refusals: Mapping[str, type[Exception]]) -> None:
        self._ask = ask
        self._refusals = refusals
        self._names = {kind: name for name, kind in refusals.items()}
        self._found: dict[str, tuple[bool, str | None, Any]] = {}
        self._rows: list[Row] = []

    def remember(self, message_id: str, fingerprint: str, outcome: Outcome) -> None:
        self._rows.append({"message_id": message_id, "fingerprint": fingerprint, "outcome": self._encode(outcome)})

    def recall(self, message_id: str) -> tuple[str, Outcome] | None:
        for pending in self._rows:  # handled in this very transaction
            if pending["message_id"] == message_id:
                return pending["fingerprint"], self._decode(pending["outcome"])
        if message_id not in self._found:
            self._ask(self.questions([message_id]))
        is_ours, fingerprint, outcome = self._found[message_id]
        if fingerprint is not None:
            return fingerprint, self._decode(outcome)
        if not is_ours:
            raise StillRunning(message_id)
        return None

    def questions(self, message_ids: Sequence[str]) -> Iterator[Question]:
        """What is known of these messages."""
        if message_ids:
            yield Question(_RECALL, [{"message_id": message_id} for message_id in message_ids], self._take)

    def _take(self, rows: list[tuple[Any, ...]]) -> None:
        for message_id, is_ours, fingerprint, outcome in rows:
            self._found[message_id] = is_ours, fingerprint, outcome

    def statements(self) -> Iterable[Statement]:
        if self._rows:
            yield _REMEMBER, self._rows

    def _encode(self, outcome: Outcome) -> dict[str, Any]:
        if outcome.refusal is None:
            return {"result": outcome.result}
        return {"refused": self._names[type(outcome.refusal)], "because": str(outcome.refusal)}

    def _decode(self, stored: dict[str, Any]) -> Outcome:
        if "refused" not in stored:
            return Outcome(stored["result"])
        kind = self._refusals[stored["refused"]]
        return Outcome(refusal=kind.__new__(kind, stored["because"]))  # its own __init__ may ask for more than a text
