"""What travels with a message but is not part of it: who it is, what it belongs to, what caused it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeGuard, TypeVar
from uuid import uuid4

M_co = TypeVar("M_co", covariant=True)

LONGEST_TEXT = 255
"""Characters of an id, a name or any other text from outside: each has room in an index."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of one message. `correlation_id` is shared by all that followed from one request from outside;
    `causation_id` is the id of the message that directly led to this one.

    `principal` is who asked, as far as that was proved: `kind:name`, such as `api_key:shop`. The kinds are those of
    the CloudEvents extension `authcontext`. None where nobody had to say.
    """

    id: str
    correlation_id: str
    causation_id: str | None
    source: str
    time: datetime
    principal: str | None = None

    @classmethod
    def first(cls, source: str, correlation_id: str | None = None, principal: str | None = None) -> Metadata:
        """For a message from outside, caused by nothing that we know."""
        own = str(uuid4())
        return cls(own, correlation_id or own, None, source, datetime.now(UTC), principal)

    def next(self) -> Metadata:
        """For a message that this one caused."""
        return Metadata(str(uuid4()), self.correlation_id, self.id, self.source, datetime.now(UTC), self.principal)


class MessageId(str):
    """One that may also have been kept under `other` spellings."""

    __slots__ = ("other",)
    other: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stream from outside was handled. The `fingerprint` of that entry tells whether a stream that has such
    an id is the same one, or was made anew.

    Up to the entry `answered` nothing is left to do. Later ones, up to `entry_id`, have been handled, and their senders
    may still wait for an answer; None: nobody does."""

    stream: str
    entry_id: str
    fingerprint: str
    answered: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A command with what came along. A `message_id` makes it safe to send again: its first outcome stands. The
    `position` is how far its stream is handled with it."""

    command: object
    metadata: Metadata = field(default_factory=lambda: Metadata.first("internal"))
    message_id: str | None = None
    position: Position | None = None

    @property
    def message_ids(self) -> Sequence[str]:
        """Under which its outcome may be kept."""
        if not self.message_id:
            return ()
        return (
            (self.message_id, *self.message_id.other) if isinstance(self.message_id, MessageId) else (self.message_id,)
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended: with a result (JSON values only), or refused by a rule of the domain.

    `changed` says whether anything happened now; the same result may mean that it had happened before.
    """

    result: Any = None
    refusal: Exception | None = None
    changed: bool = field(default=False, compare=False)

    def unwrap(self) -> Any:
        """The result, or the refusal raised."""
        if self.refusal:
            raise self.refusal
        return self.result


@dataclass(frozen=True, slots=True)
class DryRun(Outcome):
    """How a command would end, and the events that it would give. Nothing of it is kept."""

    events: Sequence[Recorded[object]] = ()


LEFT_OUT = Outcome()
"""Of a request that was left for another transaction, since its stream is locked."""


@dataclass(frozen=True, slots=True)
class NewEvent(Generic[M_co]):
    """An event as its aggregate recorded it: the `version`-th of its stream."""

    stream: str
    version: int
    event: M_co


@dataclass(frozen=True, slots=True)
class Recorded(Generic[M_co]):
    """An event in its place in the log. Its `metadata.id` is the same wherever and however often it is published."""

    stream: str
    version: int
    event: M_co
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M_co]):
    """An event on its way outside, by one effect.

    `after` is the version that this effect was carried out for last, 0 for none. The `token` rises with every claim on
    the stream: who remembers the highest can answer whoever comes late.
    """

    recorded: Recorded[M_co]
    after: int
    token: int


def usable_id(text: object) -> TypeGuard[str]:
    """Whether somebody else's id can be ours: it becomes a header, a key and a part of log lines."""
    return isinstance(text, str) and text.isascii() and text.isprintable() and 0 < len(text) <= LONGEST_TEXT
