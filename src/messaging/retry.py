"""Whole transactions are run again when someone was faster, or the database was gone in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, wait_random_exponential

from messaging.errors import (
    ConcurrencyConflict,
    ConflictRetriesExhausted,
    Disconnected,
    OutcomeUnknown,
    RequestInProgress,
    Unavailable,
)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Retry:
    """Retries with full jitter, so that those who collided do not meet again. Times are in seconds. `again` gets
    the reason before each wait."""

    conflict_deadline: float = 5.0
    outage_deadline: float = 1.0
    first_wait: float = 0.005
    longest_wait: float = 0.25
    sleep: Callable[[float], None] = time.sleep
    again: Callable[[BaseException], object] = lambda _: None
    _retrying: Retrying = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        retrying = Retrying(
            retry=retry_if_exception_type((ConcurrencyConflict, Disconnected, OutcomeUnknown, RequestInProgress)),
            wait=wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait),
            stop=self._too_late,
            sleep=self.sleep,
            before_sleep=self._tell,
        )
        object.__setattr__(self, "_retrying", retrying)  # threads may share it

    def __call__(self, attempt: Callable[[], R]) -> R:
        """What the attempt returned; raises Unavailable, or RequestInProgress, when none succeeded in time."""
        try:
            return self._retrying(attempt)
        except RetryError as given_up:
            error = given_up.last_attempt.exception()
            if isinstance(error, RequestInProgress):
                raise error from None
            tries = given_up.last_attempt.attempt_number
            kind = ConflictRetriesExhausted if isinstance(error, ConcurrencyConflict) else Unavailable
            raise kind(f"given up after {tries} {'try' if tries == 1 else 'tries'}: {error}") from error

    def _tell(self, state: RetryCallState) -> None:
        if state.outcome and (error := state.outcome.exception()):
            self.again(error)

    def _too_late(self, state: RetryCallState) -> bool:
        """After so long of conflicts, or so long after the last of them."""
        calls = state.retry_object.statistics  # of this thread, and empty at its first attempt
        now = state.seconds_since_start or 0.0
        if state.outcome and isinstance(state.outcome.exception(), ConcurrencyConflict):
            calls["last_conflict"] = now
            return now + state.upcoming_sleep > self.conflict_deadline
        last_conflict: float = calls.get("last_conflict", 0.0)
        return now - last_conflict + state.upcoming_sleep > self.outage_deadline
