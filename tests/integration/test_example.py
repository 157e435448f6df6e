"""The machinery serves another bounded context, on the same tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from examples.loyalty import CODEC, REFUSALS, Accounts, ChangePoints, NotEnoughPoints, PointsChanged, routes
from sqlalchemy import Engine
from tests.unit.test_example import Letters

from messaging.bus import MessageBus
from messaging.envelope import NewEvent
from messaging.outbox.relay import Relay
from messaging.sql.deliveries import SqlDeliveries
from messaging.sql.round_trip import RoundTrips
from messaging.sql.unit_of_work import SqlTransaction, transactions


class SqlUnitOfWork(SqlTransaction):
    def __init__(self, round_trips: RoundTrips) -> None:
        super().__init__(round_trips, CODEC, REFUSALS)
        self.accounts = Accounts(self.event_log.history)

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        return self.accounts.collect_new_events()

    def discard_new_events(self) -> None:
        self.accounts.discard_new_events()


def test_points_are_earned_redeemed_and_published(engine: Engine) -> None:
    letters = Letters(written=[])
    bus = MessageBus(routes(letters), transactions(engine, SqlUnitOfWork), NotEnoughPoints)

    assert bus.handle(ChangePoints("ann", 10), message_id="m1") == 10
    assert bus.handle(ChangePoints("ann", 10), message_id="m1") == 10
    assert bus.handle(ChangePoints("ann", -4)) == 6
    with pytest.raises(NotEnoughPoints, match="ann has 6 points, not 7"):
        bus.handle(ChangePoints("ann", -7))
    Relay(bus.routes, SqlDeliveries(engine, CODEC)).deliver("tell_customer")

    assert letters.written == [PointsChanged("ann", 10), PointsChanged("ann", -4)]
