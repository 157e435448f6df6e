"""What the outside is told of an event, after the commit, at least once, in commit order within a stream.

An effect raises Unavailable when the surroundings fail: it is tried again until they are back. It raises ClaimLost when
it can tell that another relay has the stream by now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from messaging.correlation import working_on
from messaging.envelope import Delivery

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)


class _Named(Protocol):
    @property
    def name(self) -> str:
        """Its name in the outbox: explicit, since rows outlive releases."""
        ...

    @property
    def may_be_slow(self) -> bool:
        """Whether it may take long for one stream and be quick for others. Then some are carried out side by side."""
        ...


class Effect(_Named, Protocol[M_contra]):
    """Carried out for one event at a time."""

    def __call__(self, delivery: Delivery[M_contra], /) -> None: ...


@runtime_checkable
class EffectOnMany(_Named, Protocol[M_contra]):
    """Carried out for many events at once, of many streams, where that is faster."""

    @property
    def at_once(self) -> int:
        """How many deliveries it is given at once, at most."""
        ...

    def carry_out(self, deliveries: Sequence[Delivery[M_contra]], /) -> Mapping[str, Exception]:
        """Those of a stream come together, in their order. Returns for which streams it failed, and why.

        Of a stream that failed no delivery counts as carried out. What is raised goes for all streams. What is the
        fault of one event comes again alone, so that it is known which one it was.
        """
        ...


@dataclass(frozen=True, slots=True)
class OneByOne(Generic[M]):
    """An effect for one event, in the form in which relays carry out all of them."""

    effect: Effect[M]
    at_once: ClassVar[int] = 1

    @property
    def name(self) -> str:
        return self.effect.name

    @property
    def may_be_slow(self) -> bool:
        return self.effect.may_be_slow

    def carry_out(self, deliveries: Sequence[Delivery[M]]) -> Mapping[str, Exception]:
        for delivery in deliveries:
            with working_on(delivery.recorded.metadata.correlation_id):
                self.effect(delivery)
        return {}
