"""The names of events, refusals and commands outside. They outlive the classes: never change one, add another."""

from __future__ import annotations

from allocation.domain import commands, events, model
from messaging.cloud_events import CloudEvents
from messaging.codec import Codec

CODEC = Codec(
    {
        "batch_created.v1": events.BatchCreated,
        "batch_quantity_changed.v1": events.BatchQuantityChanged,
        "allocated.v1": events.Allocated,
        "deallocated.v1": events.Deallocated,
        "out_of_stock.v1": events.OutOfStock,
    }
)

COMMAND_NAMES: dict[str, type[commands.Command]] = {
    "allocation.create_batch.v1": commands.CreateBatch,
    "allocation.allocate.v1": commands.Allocate,
    "allocation.change_batch_quantity.v1": commands.ChangeBatchQuantity,
}
"""As other systems name them. A new version gets another name, and both are read into today's command."""

CLOUD_EVENTS = CloudEvents(CODEC, source="/allocation", prefix="allocation")

REFUSALS: dict[str, type[Exception]] = {
    "invalid_sku": model.InvalidSku,
    "unknown_batch": model.UnknownBatch,
    "batch_conflict": model.BatchConflict,
    "line_conflict": model.LineConflict,
    "stale_batch": model.StaleBatch,
}
