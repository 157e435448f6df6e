"""What can go wrong between a message and its outcome.

MessagingError
├── RoutingError                 the routing table is incomplete or says two things
├── UnreadableMessage            not of its shape
│   └── UnknownMessage           ... or of no type that this release knows; a newer one may
├── MessageIdReused              this message id came before, with another body
├── RequestInProgress            this message id came before, and is at work; its outcome can be asked for soon
├── ConcurrencyConflict          someone was faster; the same again on fresh state may succeed
│   └── AlreadyThere             ... and made what has to be unique; who tries again sees it
├── IsLong                       it does more than fits an ordinary transaction; it runs again, apart from others
├── ClaimLost                    another relay has taken the stream over; what is left of it is no longer ours to do
└── Unavailable                  database, broker or mail server can't be used now; the same later may succeed
    ├── ConflictRetriesExhausted ... or others were faster, for as long as we tried
    ├── BrokerUnavailable        ... and it is the broker
    ├── NotAllowed               ... or the database answers, and a right is missing
    ├── Disconnected             ... before anything was committed: running again is safe
    └── OutcomeUnknown           ... while committing: the log tells, once it can be read again
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from messaging.envelope import Metadata


class MessagingError(Exception):
    """Root of all errors of the machinery."""


class RoutingError(MessagingError):
    pass


class UnreadableMessage(MessagingError):
    """`metadata`: of a message that could be read but for its content."""

    metadata: Metadata | None = None


class UnknownMessage(UnreadableMessage):
    def __init__(self, name: str) -> None:
        super().__init__(f"no message is known as {name} to this release; a newer one may have written it")


class MessageIdReused(MessagingError):
    def __init__(self, message_id: str) -> None:
        super().__init__(f"message id {message_id} was used before with another body")


class RequestInProgress(MessagingError):
    def __init__(self, message_id: str) -> None:
        super().__init__(f"message id {message_id} is still at work")


class ConcurrencyConflict(MessagingError):
    pass


class AlreadyThere(ConcurrencyConflict):
    pass


class IsLong(MessagingError):
    pass


class ClaimLost(MessagingError):
    """`token` is the higher one that was met, if any was."""

    def __init__(self, message: str, token: int = 0) -> None:
        super().__init__(message)
        self.token = token


class Unavailable(MessagingError):
    pass


class ConflictRetriesExhausted(Unavailable):
    pass


class BrokerUnavailable(Unavailable):
    pass


class NotAllowed(Unavailable):
    pass


class Disconnected(Unavailable):
    pass


class OutcomeUnknown(Unavailable):
    pass
