"""What the bus needs of a transaction. Implementations: `messaging.sql`, and `messaging.testing` in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from messaging.envelope import NewEvent, Outcome, Position, Recorded


class EventLog(Protocol):
    def append(self, recorded: Recorded[object], effects: Iterable[str]) -> None:
        """Keep the event for good, and the names of the effects it must have.

        Raises ConcurrencyConflict, at the commit, when its version is taken.
        """
        ...

    def has(self, recorded: Recorded[object]) -> bool:
        """Whether this very event was committed."""
        ...


class Outbox(Protocol):
    def post(self, recorded: Recorded[object], effect: str) -> None:
        """Have the effect carried out after the commit."""
        ...


class Inbox(Protocol):
    def remember(self, message_id: str, fingerprint: str, outcome: Outcome) -> None:
        """Keep the outcome. Raises ConcurrencyConflict, at the commit, when someone else just kept one."""
        ...

    def recall(self, message_id: str) -> tuple[str, Outcome] | None:
        """The fingerprint and outcome kept under this id. Raises RequestInProgress while another has it."""
        ...

    def advance(self, position: Position) -> None:
        """Keep that a stream was handled up to here."""
        ...

    def position(self, stream: str) -> Position | None:
        """How far a stream was handled."""
        ...


class UnitOfWork(Protocol):
    """One transaction. Left without `commit`, it never happened."""

    @property
    def event_log(self) -> EventLog: ...

    @property
    def outbox(self) -> Outbox: ...

    @property
    def inbox(self) -> Inbox: ...

    def prefetch(self, commands: Sequence[object], message_ids: Sequence[str]) -> None:
        """Read at once what these commands and messages need. What was not prefetched is found too."""
        ...

    def lock(self, commands: Sequence[object], streams: Collection[str] = (), *, wait: bool) -> None:
        """Have nobody else write what these commands will, nor these streams, until the commit. Called first of all; it
        takes effect with whatever is read next. Without `wait`, what others have locked is left to them: see
        `locked_elsewhere`."""
        ...

    @property
    def streams(self) -> Collection[str]:
        """Those that were loaded."""
        ...

    @property
    def locked_elsewhere(self) -> Collection[str]:
        """The streams that others have locked, once something was read."""
        ...

    def collect_new_events(self) -> Iterable[NewEvent[object]]:
        """The events that aggregates recorded since this was last called, in the order in which they happened."""
        ...

    def discard_new_events(self) -> None:
        """Put every aggregate back as it was when new events were last collected."""
        ...

    def commit(self) -> None:
        """Make all of it true at once.

        Raises ConcurrencyConflict (nothing happened), OutcomeUnknown (it may have).
        """
        ...
