"""What happens outside because of an event, after the commit, at least once, in commit order within a stream.

An effect raises Unavailable when the other side can't be reached: it is tried again until it can. It raises ClaimLost
when it can tell that another relay has the stream by now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from messaging.correlation import working_on
from messaging.envelope import Delivery

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Effect(Generic[M]):
    """Delivered for at most `batch` events at once, of many streams, those of a stream together and in their order.

    `name` stands in the outbox, so it outlives releases. `deliver` returns for which streams it failed, and why; of
    these none counts as delivered. What it raises counts for all. What is the fault of one event comes again alone, so
    that it is known which one it was. One that may take long for one stream and be quick for others has several
    `workers`, with one stream each.
    """

    name: str
    deliver: Callable[[Sequence[Delivery[M]]], Mapping[str, Exception]]
    batch: int = 1
    workers: int = 1


def one_by_one(deliver: Callable[[Delivery[M]], object]) -> Callable[[Sequence[Delivery[M]]], Mapping[str, Exception]]:
    """For an effect that is for one event at a time."""

    def each(deliveries: Sequence[Delivery[M]]) -> Mapping[str, Exception]:
        for delivery in deliveries:
            with working_on(delivery.recorded.metadata.correlation_id):
                deliver(delivery)
        return {}

    return each
