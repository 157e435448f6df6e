"""The machinery serves another bounded context: here in memory, in the integration tests on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from examples.loyalty import Accounts, ChangePoints, NotEnoughPoints, PointsChanged, UnitOfWork, routes

from messaging.bus import MessageBus
from messaging.envelope import Delivery, NewEvent
from messaging.outbox.relay import Relay
from messaging.testing import Memory, MemoryDeliveries, MemoryTransaction


@dataclass
class Letters:
    written: list[PointsChanged] = field(default_factory=list)

    def __call__(self, delivery: Delivery[PointsChanged]) -> None:
        self.written.append(delivery.recorded.event)


class MemoryUnitOfWork(MemoryTransaction):
    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self.accounts = Accounts(self.history)

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        return self.accounts.collect_new_events()

    def discard_new_events(self) -> None:
        self.accounts.discard_new_events()


def test_points_are_earned_redeemed_and_published() -> None:
    memory, letters = Memory(), Letters()

    @contextmanager
    def unit_of_work() -> Iterator[UnitOfWork]:
        yield MemoryUnitOfWork(memory)

    bus = MessageBus(routes(letters), unit_of_work, NotEnoughPoints)

    assert bus.handle(ChangePoints("ann", 10)) == 10
    assert bus.handle(ChangePoints("ann", -4)) == 6
    with pytest.raises(NotEnoughPoints, match="ann has 6 points, not 7"):
        bus.handle(ChangePoints("ann", -7))
    Relay(bus.routes, MemoryDeliveries(memory)).deliver("tell_customer")

    assert letters.written == [PointsChanged("ann", 10), PointsChanged("ann", -4)]
