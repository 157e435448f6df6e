"""The outbox as relays see it: messages wait in streams, and whoever has claimed a stream carries out its messages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from messaging.envelope import Recorded


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """An effect to carry out: `read` gives the event, or raises UnreadableMessage.

    Of the `attempts` that failed so far, `faults` were none of an outage.
    """

    version: int
    attempts: int
    faults: int
    read: Callable[[], Recorded[object]]


@dataclass(slots=True)
class Claim:
    """The next messages of one stream, ours until the claim runs out, and what became of them.

    `after` is the version that was delivered last. `met` is a higher token with which somebody has delivered: of our
    successor, or from before the database lost its last claims. If the claim is ours yet, the next one is higher.
    """

    stream: str
    token: int
    after: int
    messages: Sequence[OutboxMessage]
    delivered: list[int] = field(default_factory=list)
    failure: Failure | None = None
    lost: bool = False
    met: int = 0

    @property
    def is_over(self) -> bool:
        """Whether its later messages must wait: for one that failed, or for the relay that has taken it over."""
        return self.lost or self.failure is not None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the message after the delivered ones failed; try again `retry_in` seconds later, or never (None)."""

    version: int
    reason: str
    retry_in: float | None
    is_fault: bool


class Deliveries(Protocol):
    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        """Claim streams with messages that are due, so many at most, for `lease` seconds."""
        ...

    def extend(self, effect: str, claims: Sequence[Claim]) -> Collection[str]:
        """Have claims last another `lease` from now; returns the streams that are still ours."""
        ...

    def settle(self, effect: str, claims: Sequence[Claim]) -> None:
        """Write down what was delivered or failed, and let go. A claim that was lost meanwhile changes nothing."""
        ...

    @property
    def lease(self) -> float: ...
