"""What is seen of the bus and the relay, and that looking changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests import fakes

from allocation.domain.commands import Allocate, CreateBatch
from allocation.domain.errors import InvalidSku
from allocation.domain.events import Allocated, BatchCreated
from messaging.envelope import Delivery, Recorded
from messaging.errors import ConcurrencyConflict
from messaging.observation import DeliveryEnded, HandlingEnded, Observer, Observers
from messaging.outbox.relay import Relay
from messaging.retry import Retry


@dataclass
class Notes(Observer):
    name: str
    seen: list[Any] = field(default_factory=list)
    keeps_traces: bool = False

    def handling(self, requests: Sequence[Any]) -> HandlingEnded:
        self.seen.append((self.name, [type(request.command) for request in requests]))
        return lambda ended: self.seen.append((self.name, "handled"))

    def happened(self, recorded: Sequence[Recorded[object]]) -> None:
        self.seen.append((self.name, [type(one.event) for one in recorded]))

    def again(self, error: BaseException) -> None:
        self.seen.append((self.name, error))

    def delivering(self, effect: str, deliveries: Sequence[Delivery[object]]) -> DeliveryEnded:
        self.seen.append((self.name, effect, len(deliveries)))
        return lambda ended: self.seen.append((self.name, "delivered"))


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def service(seen: list[Any]) -> fakes.Service:
    service = fakes.Service()
    both = Observers(Notes("first", seen), Notes("second", seen))
    service.bus = replace(service.bus, observer=both)
    service.relay = replace(service.relay, observer=both)
    return service


def test_both_see_what_is_asked_what_happens_and_what_is_published(service: fakes.Service, seen: list[Any]) -> None:
    service.when(CreateBatch("b1", "LAMP", 1))

    assert seen == [
        ("first", [CreateBatch]),
        ("second", [CreateBatch]),
        ("first", [BatchCreated]),
        ("second", [BatchCreated]),
        ("second", "handled"),
        ("first", "handled"),
        ("first", "publish_event", 1),
        ("second", "publish_event", 1),
        ("second", "delivered"),
        ("first", "delivered"),
    ]
    assert len(service.publisher.published) == 1


def test_a_refusal_is_no_event_and_is_still_raised(service: fakes.Service, seen: list[Any]) -> None:
    with pytest.raises(InvalidSku):
        service.bus.handle(Allocate("o1", "NIX", 1))

    assert seen[:4] == [("first", [Allocate]), ("second", [Allocate]), ("first", []), ("second", [])]


def test_what_was_rolled_back_has_not_happened_and_the_reason_is_told(
    service: fakes.Service, seen: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.given(CreateBatch("b1", "LAMP", 1))
    seen.clear()
    faults: list[Exception] = [ConcurrencyConflict("somebody was faster")]
    commit = fakes.FakeUnitOfWork.commit

    def lose_once(uow: fakes.FakeUnitOfWork) -> None:
        if faults:
            raise faults.pop()
        commit(uow)

    monkeypatch.setattr(fakes.FakeUnitOfWork, "commit", lose_once)
    told: list[BaseException] = []
    bus = replace(service.bus, retry=Retry(again=told.append))

    bus.handle(Allocate("o1", "LAMP", 1))

    assert [type(error) for error in told] == [ConcurrencyConflict]
    assert [one for one in seen if one[1] == [Allocated]] == [("first", [Allocated]), ("second", [Allocated])]


def test_nobody_looks_unless_told_to() -> None:
    service = fakes.Service()

    assert type(service.bus.observer) is Observer
    assert isinstance(service.relay, Relay)
    assert type(service.relay.observer) is Observer


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (False, False)])
def test_traces_are_kept_if_one_of_them_does(first: bool, second: bool) -> None:
    both = Observers(Notes("first", keeps_traces=first), Notes("second", keeps_traces=second))

    assert both.keeps_traces == (first or second)


class Clumsy(Observer):
    def delivering(self, effect: str, deliveries: Sequence[Delivery[object]]) -> DeliveryEnded:
        def end(ended: Mapping[str, Exception] | BaseException) -> None:
            raise OSError("no space for numbers")

        return end


def test_what_was_carried_out_is_not_carried_out_again_since_an_observer_fails(service: fakes.Service) -> None:
    service.relay = replace(service.relay, observer=Clumsy())

    service.when(CreateBatch("b1", "LAMP", 1))
    service.when(Allocate("o1", "LAMP", 2))

    assert len(service.notifications.sent) == 1
    assert service.memory.outbox == []
