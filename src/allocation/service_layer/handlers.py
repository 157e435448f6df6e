"""What is done about each message, one short function each."""

from __future__ import annotations

from allocation.domain import allocating, commands, events, receiving
from allocation.domain.lines import OrderLine
from allocation.service_layer.ports import UnitOfWork


def add_batch(cmd: commands.CreateBatch, uow: UnitOfWork) -> None:
    receiving.add_batch(uow.products.get(cmd.sku), cmd.ref, cmd.qty, cmd.eta)


def allocate(cmd: commands.Allocate, uow: UnitOfWork) -> str | None:
    """The reference of the batch, or None when out of stock."""
    return allocating.allocate(uow.products.get(cmd.sku), OrderLine.of(cmd))


def change_batch_quantity(cmd: commands.ChangeBatchQuantity, uow: UnitOfWork) -> None:
    receiving.change_batch_quantity(uow.products.get_by_batchref(cmd.ref), cmd.ref, cmd.qty, cmd.seen)


def reallocate(event: events.Deallocated, uow: UnitOfWork) -> None:
    allocating.allocate(uow.products.get(event.sku), OrderLine.of(event))


def add_to_allocations_view(event: events.Allocated, uow: UnitOfWork) -> None:
    uow.allocations_view.add(event)


def remove_from_allocations_view(event: events.Deallocated, uow: UnitOfWork) -> None:
    uow.allocations_view.remove(event)


def report_shortages(cmd: commands.ReportShortages, uow: UnitOfWork) -> None:
    """In the history of the first that was short."""
    uow.products.get(cmd.sku).record(events.ShortagesReported(cmd.sku, cmd.lines, cmd.listed))
