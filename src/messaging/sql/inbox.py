"""The messages that were handled, with their outcomes, and how far each stream of them was.

The primary key is what makes a second one fail."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import case, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from messaging.codec import JsonObject
from messaging.envelope import Outcome, Position
from messaging.errors import RequestInProgress
from messaging.refusals import Refusals
from messaging.sql import tables
from messaging.sql.statements import Ask, Query, Row, Rows, Statement, Write, compiled, rows_of

_handled = rows_of(*(tables.inbox.c[name] for name in ("message_id", "fingerprint", "outcome", "received_at")))
# By the later of two clocks: what a clock that is behind has written is forgotten as soon as it is right again.
_received_at = func.greatest(func.now(), _handled.c.received_at)
_REMEMBER = Write(
    tables.inbox.name,
    compiled(
        insert(tables.inbox).from_select(
            [*_handled.c.keys()],
            select(_handled.c.message_id, _handled.c.fingerprint, _handled.c.outcome, _received_at),
        )
    ),
)
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

_positions = tables.stream_positions
_where = rows_of(_positions.c.stream, _positions.c.entry_id, _positions.c.fingerprint)
_moved = insert(_positions).from_select(["stream", "entry_id", "fingerprint"], select(*_where.c))
_ADVANCE = Write(
    _positions.name,
    compiled(
        _moved.on_conflict_do_update(
            index_elements=["stream"],
            set_={  # who handles an entry is done with those before it
                "entry_id": _moved.excluded.entry_id,
                "fingerprint": _moved.excluded.fingerprint,
                "answered": _positions.c.entry_id,
                "as_of": _moved.excluded.entry_id,
            },
        )
    ),
)
_streams = rows_of(_positions.c.stream)
_answered = case((_positions.c.as_of == _positions.c.entry_id, _positions.c.answered))
_POSITION = compiled(
    select(_positions.c.stream, _positions.c.entry_id, _positions.c.fingerprint, _answered).join(
        _streams, _streams.c.stream == _positions.c.stream
    )
)


_ENTRY_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")

log = logging.getLogger(__name__)


class SqlInbox:
    def __init__(self, ask: Ask, refusals: Refusals) -> None:
        self._ask = ask
        self._refusals = refusals
        self._found: dict[str, tuple[bool, str | None, Any]] = {}
        self._rows: dict[str, Row] = {}
        self._positions: dict[str, Row] = {}

    def remember(self, message_id: str, fingerprint: str, outcome: Outcome) -> None:
        encoded = self._refusals.encode(outcome.refusal) if outcome.refusal else {"result": outcome.result}
        self._rows[message_id] = {
            "message_id": message_id,
            "fingerprint": fingerprint,
            "outcome": encoded,
            "received_at": datetime.now(UTC),
        }

    def recall(self, message_id: str) -> tuple[str, Outcome] | None:
        if pending := self._rows.get(message_id):  # handled in this very transaction
            return pending["fingerprint"], self._decode(pending["outcome"])
        if message_id not in self._found:
            self.take(self._ask(*self.queries([message_id])))
        is_ours, fingerprint, outcome = self._found[message_id]
        if fingerprint is not None:
            return fingerprint, self._decode(outcome)
        if not is_ours:
            raise RequestInProgress(message_id)
        return None

    def advance(self, position: Position) -> None:
        self._positions[position.stream] = {
            "stream": position.stream,
            "entry_id": position.entry_id,
            "fingerprint": position.fingerprint,
        }

    def position(self, stream: str) -> Position | None:
        """None also where what is stored is damaged: then the group says where it is."""
        rows = self._ask(Query(_POSITION, [{"stream": stream}]))[_POSITION]
        found = next((Position(*row) for row in rows), None)
        if found and not _ENTRY_ID.fullmatch(found.entry_id):
            about = {"stream": stream, "found": found.entry_id}
            log.error("how far the stream is handled is not known", extra=about)
            return None
        if found and not _ENTRY_ID.fullmatch(found.answered or ""):
            return replace(found, answered=None)
        return found

    def queries(self, message_ids: Sequence[str]) -> Iterator[Query]:
        """What is known of these messages."""
        if message_ids:
            yield Query(_RECALL, [{"message_id": message_id} for message_id in message_ids])

    def take(self, answers: Mapping[str, Rows]) -> None:
        for message_id, is_ours, fingerprint, outcome in answers.get(_RECALL, ()):
            self._found[message_id] = is_ours, fingerprint, outcome

    def statements(self) -> Iterable[Statement]:
        yield _REMEMBER, [self._rows[message_id] for message_id in sorted(self._rows)]
        yield _ADVANCE, [*self._positions.values()]

    def _decode(self, stored: JsonObject) -> Outcome:
        return Outcome(stored["result"]) if "result" in stored else Outcome(refusal=self._refusals.decode(stored))
