"""What is done about what: the table of contents of the service."""

from __future__ import annotations

from allocation.domain import commands, events
from allocation.service_layer import handlers
from allocation.service_layer.messages import EVENTS
from allocation.service_layer.ports import Notifications, Publisher, UnitOfWork
from messaging.routes import Routes


def routes(notifications: Notifications, publisher: Publisher, stock_team: str) -> Routes[UnitOfWork]:
    """`stock_team`: the address that is mailed when a line is out of stock."""
    route: Routes[UnitOfWork] = Routes()

    route.command(commands.CreateBatch, handlers.add_batch)
    route.command(commands.Allocate, handlers.allocate)
    route.command(commands.ChangeBatchQuantity, handlers.change_batch_quantity)

    # in the same transaction
    route.event(events.Allocated, handlers.add_to_allocations_view)
    route.event(events.Deallocated, handlers.remove_from_allocations_view, handlers.reallocate)

    # after the commit
    publish = handlers.PublishEvent(publisher)
    for row in EVENTS:
        if row.published:
            route.effect(row.kind, publish)
    route.effect(events.OutOfStock, handlers.SendOutOfStockNotification(notifications, stock_team))

    return route
