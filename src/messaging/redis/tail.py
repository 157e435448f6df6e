"""A stream of events read from its end on, as it grows: each event once, and none is passed over.

An entry may come twice, from another relay, or when Redis had lost the stream and has it again from the log. So what
counts is the version of a subject, and not the entry: at first those that the stream's own hash has as published.
Ids tell how far one has read only as long as the stream is the same, which the key of its incarnation tells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from messaging.redis.client import redis_faults
from messaging.redis.entry_ids import order_of
from messaging.redis.event_stream import FIELD, incarnation_key, told_key, version_in

_BEGINNING = b"0-0"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """`event` is the CloudEvent in the body, None if it can't be read."""

    id: str
    body: bytes
    event: Mapping[str, Any] | None


class Tail:
    """All of it raises Unavailable; after that it can be read on, where it was. `subject`: of this one alone."""

    def __init__(self, client: redis.Redis, stream: str, subject: str | None = None, most: int = 500) -> None:
        self._client = client
        self._stream = stream
        self._subject = subject
        self._most = most
        self._read_up_to = _BEGINNING
        self._last_old = _BEGINNING
        self._goal: bytes | None = None
        self._incarnation: object = None
        self._is_at_end = False
        self._since: datetime | None = None
        self._told_before: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    @property
    def is_past_what_was_there(self) -> bool:
        """Whether all has been read that the stream held at the start."""
        return self._is_at_end or (self._goal is not None and order_of(self._read_up_to) >= order_of(self._goal))

    def start(self, since: timedelta | None = None) -> None:
        """At the end of the stream, or with what was published in this last time, by the clock of Redis."""
        with redis_faults():
            self._incarnation = self._client.get(incarnation_key(self._stream))
            self._told_before = self._told()
            self._last_old = self._read_up_to = self._goal = self._last_id()
            if since is not None:
                seconds, microseconds = self._client.time()
                begin = max(timedelta(), timedelta(seconds=int(seconds), microseconds=int(microseconds)) - since)
                self._since = _EPOCH + begin
                self._read_up_to = min(self._last_old, b"%d-0" % (begin // timedelta(milliseconds=1)), key=order_of)

    def read(self, wait: float = 1.0) -> list[PublishedEvent]:
        """What is new, after `wait` seconds at most; nothing then, maybe."""
        with redis_faults():
            answer = self._xread(max(1, int(wait * 1000)))
            incarnation = self._client.get(incarnation_key(self._stream))  # after it: so what was read is of this one
            if incarnation != self._incarnation:
                self._incarnation, self._read_up_to, self._last_old = incarnation, _BEGINNING, _BEGINNING
                self._goal = None
                answer = self._xread(None)
            if self._goal is None and self._is_filled():
                self._goal = self._last_id()
        self._is_at_end = not answer
        entries = []
        for entry_id, fields in answer[0][1] if answer else []:
            self._read_up_to = entry_id
            entry = _entry(entry_id, fields)
            if self._is_wanted(entry) and self._is_new(entry):
                entries.append(entry)
        return entries

    def _is_filled(self) -> bool:
        """Whether what was lost is in the stream again, as far as it is kept."""
        mark: Any = self._client.hget(told_key(self._stream), "")
        return mark is not None and mark != b"gap" and not mark.startswith(b"checking:")

    def _xread(self, block: int | None) -> Any:
        return self._client.xread({self._stream: self._read_up_to}, count=self._most, block=block)

    def _is_wanted(self, entry: PublishedEvent) -> bool:
        return self._subject is None or (entry.event is not None and entry.event.get("subject") == self._subject)

    def _is_new(self, entry: PublishedEvent) -> bool:
        try:
            subject, version = str((entry.event or {})["subject"]), int((entry.event or {})["sequence"])
        except (KeyError, ValueError, TypeError):
            return True  # nobody knows
        seen = self._seen.get(subject, 0)
        self._seen[subject] = max(seen, version)
        if order_of(entry.id) > order_of(self._last_old) and not self._is_young(entry):
            seen = max(seen, self._told_before.get(subject, 0))  # what was published before we came is not new
        return version > seen

    def _is_young(self, entry: PublishedEvent) -> bool:
        """Whether it is young enough for `since`: such an event may not have been read before the stream was lost."""
        if self._since is None:
            return False
        try:
            return datetime.fromisoformat((entry.event or {})["time"]) >= self._since
        except (KeyError, ValueError, TypeError):
            return True  # nobody knows

    def _last_id(self) -> bytes:
        try:
            return bytes(self._client.xinfo_stream(self._stream)["last-generated-id"])
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return _BEGINNING
            raise

    def _told(self) -> dict[str, int]:
        """The last version of each subject."""
        key = told_key(self._stream)
        if self._subject is not None:
            known: Any = self._client.hget(key, self._subject)
            return {self._subject: version_in(known) or 0}
        told: Any = self._client.hscan_iter(key, count=1_000)
        found = ((subject.decode(errors="replace"), version_in(known)) for subject, known in told)
        return {subject: version for subject, version in found if version is not None}


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes] | None) -> PublishedEvent:
    body = (fields or {}).get(FIELD.encode(), b"")
    try:
        event = json.loads(body)
    except ValueError:
        event = None
    return PublishedEvent(entry_id.decode(), body, event if isinstance(event, dict) else None)
