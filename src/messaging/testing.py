"""The machinery in memory: for unit tests, and for trying a new bounded context before it has tables.

It keeps the same promises as `messaging.sql`; one suite of tests says so of both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock

from messaging.envelope import Outcome, Position, Recorded
from messaging.errors import ConcurrencyConflict
from messaging.outbox.claims import Claim, OutboxMessage


@dataclass(slots=True)
class Waiting:
    """An effect that was not carried out yet."""

    recorded: Recorded[object]
    effect: str
    attempts: int = 0
    faults: int = 0
    reason: str = ""
    dead: bool = False


@dataclass(slots=True)
class Memory:
    """What is committed."""

    log: defaultdict[str, list[Recorded[object]]] = field(default_factory=lambda: defaultdict(list))
    outbox: list[Waiting] = field(default_factory=list)
    inbox: dict[str, tuple[str, Outcome]] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    delivered: dict[tuple[str, str], int] = field(default_factory=dict)  # the last version, by effect and stream
    lock: Lock = field(default_factory=Lock)


class MemoryTransaction:
    """What every bounded context's unit of work has; its state is the history in the log."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._log: list[Recorded[object]] = []
        self._outbox: list[Waiting] = []
        self._inbox: dict[str, tuple[str, Outcome]] = {}
        self._positions: dict[str, Position] = {}

    @property
    def event_log(self) -> MemoryTransaction:
        return self

    @property
    def outbox(self) -> MemoryTransaction:
        return self

    @property
    def inbox(self) -> MemoryTransaction:
        return self

    def prefetch(self, commands: Sequence[object], message_ids: Sequence[str]) -> None:
        """All is in memory."""

    def lock(self, commands: Sequence[object], streams: Collection[str] = (), *, wait: bool) -> None:
        """Nobody is in the way for long."""

    @property
    def locked_elsewhere(self) -> Collection[str]:
        return ()

    @property
    def streams(self) -> Collection[str]:
        return ()

    def history(self, stream: str) -> list[object]:
        """The committed events of a stream."""
        return [recorded.event for recorded in self.memory.log.get(stream, ())]

    def append(self, recorded: Recorded[object], effects: Iterable[str]) -> None:  # noqa: ARG002 - only SQL keeps them
        self._log.append(recorded)

    def has(self, recorded: Recorded[object]) -> bool:
        return recorded in self.memory.log.get(recorded.stream, ())

    def post(self, recorded: Recorded[object], effect: str) -> None:
        self._outbox.append(Waiting(recorded, effect))

    def remember(self, message_id: str, fingerprint: str, outcome: Outcome) -> None:
        self._inbox[message_id] = fingerprint, outcome

    def recall(self, message_id: str) -> tuple[str, Outcome] | None:
        return self._inbox.get(message_id) or self.memory.inbox.get(message_id)

    def advance(self, position: Position) -> None:
        self._positions[position.stream] = position

    def position(self, stream: str) -> Position | None:
        return self.memory.positions.get(stream)

    def commit(self) -> None:
        memory = self.memory
        with memory.lock:
            if duplicates := self._inbox.keys() & memory.inbox.keys():
                raise ConcurrencyConflict(f"handled meanwhile: {duplicates}")
            lengths = {recorded.stream: len(memory.log[recorded.stream]) for recorded in self._log}
            for recorded in self._log:
                lengths[recorded.stream] += 1
                if recorded.version != lengths[recorded.stream]:
                    raise ConcurrencyConflict(f"version {recorded.version} of {recorded.stream} is taken")
            for recorded in self._log:
                memory.log[recorded.stream].append(recorded)
            memory.outbox.extend(self._outbox)
            memory.inbox.update(self._inbox)
            memory.positions.update(self._positions)


class MemoryDeliveries:
    """The outbox of a `Memory` as a relay sees it; a failed message is due again at once."""

    lease = 60.0

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        waiting: defaultdict[str, list[Waiting]] = defaultdict(list)
        for one in self._memory.outbox:
            if one.effect == effect:
                waiting[one.recorded.stream].append(one)
        return [
            Claim(stream, 1, self._memory.delivered.get((effect, stream), 0), [_message(one) for one in messages])
            for stream, messages in waiting.items()
            if not messages[0].dead
        ][:most]

    def extend(self, effect: str, claims: Sequence[Claim]) -> Collection[str]:  # noqa: ARG002 - nobody else is there
        return [claim.stream for claim in claims]

    def settle(self, effect: str, claims: Sequence[Claim]) -> None:
        for claim in claims:
            if claim.delivered:
                self._memory.delivered[effect, claim.stream] = claim.delivered[-1]
            for one in list(self._memory.outbox):
                if (one.effect, one.recorded.stream) != (effect, claim.stream):
                    continue
                if one.recorded.version in claim.delivered:
                    self._memory.outbox.remove(one)
                elif claim.failure and one.recorded.version == claim.failure.version:
                    one.attempts += 1
                    one.faults += claim.failure.is_fault
                    one.reason = claim.failure.reason
                    one.dead = claim.failure.retry_in is None


def _message(waiting: Waiting) -> OutboxMessage:
    return OutboxMessage(waiting.recorded.version, waiting.attempts, waiting.faults, lambda: waiting.recorded)
