"""A second bounded context on the same machinery: customers' loyalty points, kept as events alone.

A library without a `main`: `tests/integration/test_example.py` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from messaging import unit_of_work
from messaging.codec import Codec
from messaging.envelope import Delivery, NewEvent
from messaging.outbox.effects import Effect, one_by_one
from messaging.refusals import Refusals
from messaging.routes import Routes


@dataclass(frozen=True)
class ChangePoints:
    customer: str
    by: int


@dataclass(frozen=True)
class PointsChanged:
    customer: str
    by: int


class NotEnoughPoints(Exception):
    """More were to be redeemed than the customer has."""


CODEC = Codec({"points_changed.v1": PointsChanged})
REFUSALS = Refusals({"not_enough_points": NotEnoughPoints}, unknown=NotEnoughPoints)


class Accounts:
    """The accounts of one unit of work, each the sum of its history."""

    def __init__(self, history: Callable[[str], list[object]]) -> None:
        self._history = history
        self._known: dict[str, list[object]] = {}
        self._new: list[NewEvent[object]] = []

    def change(self, customer: str, by: int) -> int:
        if customer not in self._known:
            self._known[customer] = self._history(customer)
        past = self._known[customer]
        balance = sum(event.by for event in past if isinstance(event, PointsChanged)) + by
        if balance < 0:
            raise NotEnoughPoints(f"{customer} has {balance - by} points, not {-by}")
        past.append(PointsChanged(customer, by))
        self._new.append(NewEvent(customer, len(past), past[-1]))
        return balance

    def collect_new_events(self) -> Iterator[NewEvent[object]]:
        while self._new:
            yield self._new.pop(0)

    def discard_new_events(self) -> None:
        for new in self._new:
            self._known[new.stream].remove(new.event)
        self._new.clear()


class UnitOfWork(unit_of_work.UnitOfWork, Protocol):
    @property
    def accounts(self) -> Accounts: ...


def change_points(cmd: ChangePoints, uow: UnitOfWork) -> int:
    """The new balance."""
    return uow.accounts.change(cmd.customer, cmd.by)


def routes(tell_customer: Callable[[Delivery[PointsChanged]], object]) -> Routes[UnitOfWork]:
    route: Routes[UnitOfWork] = Routes()
    route.command(ChangePoints, change_points)
    route.effect(PointsChanged, Effect("tell_customer", one_by_one(tell_customer)))
    return route
