"""What the machinery reports to whoever wants to count, time or trace it. By itself it knows no way to do any of that.

A hook that begins something returns what is to be called at its end. Each hook is called by itself (`guarded`): one
that fails is logged, and changes nothing of what it looks at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from messaging.envelope import Delivery, Outcome, Recorded, Request

R = TypeVar("R")

HandlingEnded: TypeAlias = Callable[[list[Outcome] | BaseException], object]
DeliveryEnded: TypeAlias = Callable[[Mapping[str, Exception] | BaseException], object]

log = logging.getLogger(__name__)


class Observer:
    """Sees nothing. Others override what they want to see; they must be quick."""

    @property
    def keeps_traces(self) -> bool:
        """Whether messages should say where in a trace they stand."""
        return False

    def handling(self, requests: Sequence[Request]) -> HandlingEnded | None:
        """Commands that share a transaction are about to be handled. The end takes their outcomes, or the error."""

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        """These events were committed together."""

    def again(self, error: BaseException) -> None:
        """A transaction is about to be run again, for this reason."""

    def reply_given_up(self) -> None:
        """Who sent a command and wants its outcome does not get it."""

    def delivering(self, effect: str, deliveries: Sequence[Delivery[object]]) -> DeliveryEnded | None:
        """An effect is about to be carried out. The end takes the streams that failed, or the error for all."""


class Observers(Observer):
    """Several, in this order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    @property
    def keeps_traces(self) -> bool:
        return any(observer.keeps_traces for observer in self._observers)

    def handling(self, requests: Sequence[Request]) -> HandlingEnded:
        return _all([guarded(observer.handling, requests) for observer in self._observers])

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        for observer in self._observers:
            guarded(observer.happened, recorded)

    def again(self, error: BaseException) -> None:
        for observer in self._observers:
            guarded(observer.again, error)

    def reply_given_up(self) -> None:
        for observer in self._observers:
            guarded(observer.reply_given_up)

    def delivering(self, effect: str, deliveries: Sequence[Delivery[object]]) -> DeliveryEnded:
        return _all([guarded(observer.delivering, effect, deliveries) for observer in self._observers])


def guarded(hook: Callable[..., R], *arguments: object) -> R | None:
    """What the hook returns; None, and a line in the log, when it fails."""
    try:
        return hook(*arguments)
    except Exception:
        log.exception("an observer failed")
        return None


def _all(ends: Sequence[Callable[[Any], object] | None]) -> Callable[[Any], None]:
    def end(result: Any) -> None:
        for one in reversed(ends):
            if one:
                guarded(one, result)

    return end
