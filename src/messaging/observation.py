"""What the machinery tells whoever wants to count, time or trace it. By itself it knows no way to do any of that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from messaging.envelope import Delivery, Recorded

if TYPE_CHECKING:
    from messaging.bus import Request
    from messaging.unit_of_work import Outcome

    Handle: TypeAlias = Callable[[], list[Outcome]]
    CarryOut: TypeAlias = Callable[[Sequence[Delivery[object]]], Mapping[str, Exception]]

R = TypeVar("R")

log = logging.getLogger(__name__)


class Observer:
    """Sees nothing. Others override what they want to see; they must be quick. What they raise is logged, no more."""

    @property
    def keeps_traces(self) -> bool:
        """Whether messages should say where in a trace they stand."""
        return False

    def handling(self, requests: Sequence[Request], handle: Handle) -> list[Outcome]:  # noqa: ARG002 - for others
        """Handle commands that share a transaction: return or raise what `handle` does."""
        return handle()

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        """These events were committed together."""

    def again(self, error: BaseException) -> None:
        """A transaction is about to be run again, for this reason."""

    def delivering(
        self,
        effect: str,  # noqa: ARG002 - for others
        deliveries: Sequence[Delivery[object]],
        carry_out: CarryOut,
    ) -> Mapping[str, Exception]:
        """Carry out an effect: return or raise what `carry_out` does."""
        return carry_out(deliveries)


@dataclass(frozen=True, slots=True)
class Both(Observer):
    """The second sees what is done inside of the first."""

    first: Observer
    second: Observer

    @property
    def keeps_traces(self) -> bool:
        return self.first.keeps_traces or self.second.keeps_traces

    def handling(self, requests: Sequence[Request], handle: Handle) -> list[Outcome]:
        return self.first.handling(requests, partial(self.second.handling, requests, handle))

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        self.first.happened(recorded)
        self.second.happened(recorded)

    def again(self, error: BaseException) -> None:
        self.first.again(error)
        self.second.again(error)

    def delivering(
        self, effect: str, deliveries: Sequence[Delivery[object]], carry_out: CarryOut
    ) -> Mapping[str, Exception]:
        def inside(given: Sequence[Delivery[object]]) -> Mapping[str, Exception]:
            return self.second.delivering(effect, given, carry_out)

        return self.first.delivering(effect, deliveries, inside)


def tell(observer: Callable[[], object]) -> None:
    """Tell an observer of what is done already."""
    try:
        observer()
    except Exception:
        log.exception("an observer failed")


def unhindered(observe: Callable[[Callable[[], R]], R], act: Callable[[], R]) -> R:
    """What `act` returns or raises, with an observer around it that may fail before or after."""
    begun = False
    results: list[R] = []
    failures: list[BaseException] = []

    def acting() -> R:
        nonlocal begun
        begun = True
        try:
            results.append(act())
        except BaseException as error:
            failures.append(error)
            raise
        return results[0]

    try:
        return observe(acting)
    except Exception as error:
        if error in failures:
            raise
        log.exception("an observer failed")
    if failures:
        raise failures[0]
    return results[0] if begun else act()
