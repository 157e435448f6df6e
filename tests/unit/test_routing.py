"""The table of contents is complete, and can't pair a message with what is meant for another."""

from __future__ import annotations

from typing import get_args

import pytest
from tests.fakes import FakeNotifications, FakePublisher, Service

from allocation.domain import commands, events
from allocation.service_layer import handlers, mails
from allocation.service_layer.ports import UnitOfWork
from allocation.service_layer.routing import PUBLISH_EVENT
from messaging.errors import RoutingError
from messaging.outbox.effects import Effect, one_by_one
from messaging.routes import Routes


@pytest.mark.parametrize("kind", get_args(commands.Command))
def test_every_command_has_a_handler(kind: type) -> None:
    assert callable(Service().bus.routes.handler(kind))


@pytest.mark.parametrize("kind", get_args(events.Event))
def test_every_event_is_published(kind: type) -> None:
    assert PUBLISH_EVENT in Service().bus.routes.effect_names(kind)


def test_a_command_has_one_handler() -> None:
    route: Routes[UnitOfWork] = Routes()
    route.command(commands.Allocate, handlers.allocate)

    with pytest.raises(RoutingError, match="Allocate has a handler already"):
        route.command(commands.Allocate, handlers.allocate)


def test_an_effect_has_a_name_of_its_own() -> None:
    route: Routes[UnitOfWork] = Routes()
    publish: Effect[events.Allocated] = Effect("publish_event", FakePublisher().publish)
    route.effect(events.Allocated, publish)

    with pytest.raises(RoutingError, match="Allocated has an effect publish_event already"):
        route.effect(events.Allocated, publish)


def test_type_checking_refuses_a_wrong_pair() -> None:
    """mypy reports an ignore that hides nothing: these lines fail `make typecheck` if they ever become right."""
    route: Routes[UnitOfWork] = Routes()
    route.command(commands.Allocate, handlers.add_batch)  # type: ignore[arg-type]
    route.event(events.Allocated, handlers.reallocate)  # type: ignore[arg-type]
    send_mail = one_by_one(mails.SendOutOfStockNotification(FakeNotifications(), "us"))
    route.effect(events.Allocated, Effect("mail", send_mail))  # type: ignore[misc]
