"""What is done about each message, one short function each."""

from __future__ import annotations

from typing import Literal, TypeAlias

from allocation.domain import (
    allocating,
    backordering,
    commands,
    due_dates,
    events,
    holding,
    ordering,
    placing,
    pulling,
    quarantining,
    receiving,
)
from allocation.domain.lines import OrderLine
from allocation.domain.product import Product
from allocation.service_layer import answers
from allocation.service_layer.answers import JsonObject
from allocation.service_layer.ports import UnitOfWork

RecordedAt: TypeAlias = dict[str, int]
"""The version at which what a command led to begins, by SKU. Empty when nothing changed."""


def add_batch(cmd: commands.CreateBatch, uow: UnitOfWork) -> Literal[True] | None:
    """True when there are lines that wait: they are served next."""
    product = uow.products.get(cmd.sku)
    receiving.add_batch(product, cmd.ref, cmd.qty, cmd.eta, cmd.expires, location=cmd.location)
    return True if product.waiting else None


def allocate(cmd: commands.Allocate, uow: UnitOfWork) -> str | None:
    """The reference of the batch, or None when out of stock."""
    return allocating.allocate(uow.products.get(cmd.sku), OrderLine.of(cmd))


def place_order(cmd: commands.PlaceOrder, uow: UnitOfWork) -> JsonObject:
    """The order as it is now, or what is short of it."""
    short = placing.place_order(cmd, uow.products.lines_of(cmd.orderid), uow.products.get)
    if short:
        return answers.out_of_stock(cmd, short)
    return answers.placed(cmd, uow.products.lines_of(cmd.orderid), uow.products.get(cmd.lines[0].sku))


def change_line(cmd: commands.ChangeLine, uow: UnitOfWork) -> RecordedAt:
    line = uow.products.line(cmd.orderid, cmd.lineid)
    product = uow.products.get(line.sku)
    return _recorded_at(product, placing.change_line(product, line, cmd))


def change_batch_quantity(cmd: commands.ChangeBatchQuantity, uow: UnitOfWork) -> RecordedAt:
    product = uow.products.get_by_batchref(cmd.ref)
    return _recorded_at(product, receiving.change_batch_quantity(product, cmd.ref, cmd.qty, cmd.seen))


def change_eta(cmd: commands.ChangeEta, uow: UnitOfWork) -> None:
    receiving.change_eta(uow.products.get_by_batchref(cmd.ref), cmd.ref, cmd.eta, cmd.seen)


def receive_batch(cmd: commands.ReceiveBatch, uow: UnitOfWork) -> RecordedAt:
    product = uow.products.get_by_batchref(cmd.ref)
    return _recorded_at(product, receiving.receive_batch(product, cmd))


def count_batch(cmd: commands.CountBatch, uow: UnitOfWork) -> RecordedAt:
    product = uow.products.get_by_batchref(cmd.ref)
    return _recorded_at(product, receiving.count_batch(product, cmd))


def quarantine(cmd: commands.Quarantine, uow: UnitOfWork) -> RecordedAt:
    product = uow.products.get_by_batchref(cmd.ref)
    return _recorded_at(product, quarantining.quarantine(product, cmd))


def release_quarantine(cmd: commands.ReleaseQuarantine, uow: UnitOfWork) -> RecordedAt:
    product = uow.products.get_by_batchref(cmd.ref)
    return _recorded_at(product, quarantining.release_quarantine(product, cmd))


def write_off(cmd: commands.WriteOff, uow: UnitOfWork) -> RecordedAt:
    product = uow.products.get_by_batchref(cmd.ref)
    return _recorded_at(product, quarantining.write_off(product, cmd))


def place_hold(cmd: commands.PlaceHold, uow: UnitOfWork) -> JsonObject:
    return answers.held(holding.place(uow.products.get(cmd.sku), cmd))


def confirm_hold(cmd: commands.ConfirmHold, uow: UnitOfWork) -> None:
    holding.confirm(uow.products.get(cmd.sku), cmd)


def extend_hold(cmd: commands.ExtendHold, uow: UnitOfWork) -> JsonObject:
    return answers.held(holding.extend(uow.products.get(cmd.sku), cmd))


def void_hold(cmd: commands.VoidHold, uow: UnitOfWork) -> None:
    holding.void(uow.products.get(cmd.sku), cmd)


def pull_forward(cmd: commands.PullForward, uow: UnitOfWork) -> JsonObject:
    return answers.pulled_forward(cmd, pulling.pull_forward(uow.products.get(cmd.sku), cmd))


def apply_due_dates(cmd: commands.ApplyDueDates, uow: UnitOfWork) -> None:
    due_dates.apply_due_dates(uow.products.get(cmd.sku), cmd.refs)


def release_line(cmd: commands.ReleaseLine, uow: UnitOfWork) -> RecordedAt:
    line = uow.products.line(cmd.orderid, cmd.lineid)
    product = uow.products.get(line.sku)
    return _recorded_at(product, ordering.release_line(product, line))


def cancel_order(cmd: commands.CancelOrder, uow: UnitOfWork) -> RecordedAt:
    return ordering.cancel(cmd.orderid, uow.products.lines_of(cmd.orderid), uow.products.get)


def dispatch(cmd: commands.Dispatch, uow: UnitOfWork) -> RecordedAt:
    return ordering.dispatch(cmd, uow.products.line, uow.products.get)


def return_line(cmd: commands.ReturnLine, uow: UnitOfWork) -> RecordedAt:
    line = uow.products.line(cmd.orderid, cmd.lineid)
    product = uow.products.get(line.sku)
    return _recorded_at(product, ordering.take_back(product, line, cmd))


def _recorded_at(product: Product, version: int | None) -> RecordedAt:
    return {} if version is None else {product.sku: version}


def reallocate(event: events.Deallocated, uow: UnitOfWork) -> None:
    allocating.place_again(uow.products.get(event.sku), OrderLine.of(event))


def serve_backorders(event: events.Event, uow: UnitOfWork) -> None:
    backordering.fill(uow.products.get(event.sku))


def update_allocations_view(
    event: events.Allocated | events.Deallocated | events.LineReleased | events.Returned, uow: UnitOfWork
) -> None:
    key = event.orderid, event.lineid
    uow.allocations_view.show(key, uow.products.get(event.sku).lines.get(key))


def report_shortages(cmd: commands.ReportShortages, uow: UnitOfWork) -> None:
    """In the history of the first that was short. Raises InvalidSku."""
    product = uow.products.get(cmd.sku)
    product.require_known()
    product.record(events.ShortagesReported(cmd.sku, cmd.lines, cmd.listed))
