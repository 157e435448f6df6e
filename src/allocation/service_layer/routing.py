"""What is done about what: the table of contents of the service."""

from __future__ import annotations

from allocation.domain import commands, events
from allocation.service_layer import handlers, mails, messages, stored_names
from allocation.service_layer.ports import Notifications, Publisher, UnitOfWork
from messaging.outbox.effects import Effect, one_by_one
from messaging.routes import Routes

PUBLISH_EVENT = "publish_event"
SEND_OUT_OF_STOCK_NOTIFICATION = "send_out_of_stock_notification"


def routes(notifications: Notifications, publisher: Publisher, stock_team: str) -> Routes[UnitOfWork]:
    """`stock_team`: the address that is mailed when a line is out of stock."""
    route: Routes[UnitOfWork] = Routes(
        streams=messages.streams, name_of=messages.fingerprint_name, translate=stored_names.as_stored
    )

    route.command(commands.CreateBatch, handlers.add_batch)
    route.command(commands.Allocate, handlers.allocate)
    route.command(commands.ReportShortages, handlers.report_shortages)
    route.command(commands.PlaceOrder, handlers.place_order)
    route.command(commands.ChangeLine, handlers.change_line)
    route.command(commands.PlaceHold, handlers.place_hold)
    route.command(commands.ConfirmHold, handlers.confirm_hold)
    route.command(commands.ExtendHold, handlers.extend_hold)
    route.command(commands.VoidHold, handlers.void_hold)
    route.command(commands.PullForward, handlers.pull_forward)
    route.command(commands.ApplyDueDates, handlers.apply_due_dates)
    route.command(commands.ReleaseLine, handlers.release_line)
    route.command(commands.CancelOrder, handlers.cancel_order)
    route.command(commands.Dispatch, handlers.dispatch)
    route.command(commands.ReturnLine, handlers.return_line)
    route.command(commands.ChangeBatchQuantity, handlers.change_batch_quantity)
    route.command(commands.ChangeEta, handlers.change_eta)
    route.command(commands.ReceiveBatch, handlers.receive_batch)
    route.command(commands.CountBatch, handlers.count_batch)
    route.command(commands.Quarantine, handlers.quarantine)
    route.command(commands.ReleaseQuarantine, handlers.release_quarantine)
    route.command(commands.WriteOff, handlers.write_off)

    # in the same transaction
    route.event(events.Allocated, handlers.update_allocations_view)
    route.event(events.Deallocated, handlers.update_allocations_view, handlers.reallocate)
    route.event(events.LineReleased, handlers.update_allocations_view)
    route.event(events.Returned, handlers.update_allocations_view)
    for row in messages.EVENTS:  # whatever it was: nothing is done unless it has freed stock
        route.event(row.kind, handlers.serve_backorders)

    # after the commit
    publish = Effect(PUBLISH_EVENT, publisher.publish, batch=500)
    send_mail = one_by_one(mails.SendOutOfStockNotification(notifications, stock_team))
    for row in messages.EVENTS:
        route.effect(row.kind, publish)
    route.effect(events.OutOfStock, Effect(SEND_OUT_OF_STOCK_NOTIFICATION, send_mail, workers=4))

    send_report = one_by_one(mails.SendShortagesNotification(notifications, stock_team))
    route.effect(events.ShortagesReported, Effect(SEND_OUT_OF_STOCK_NOTIFICATION, send_report, workers=4))

    return route
