"""The names under which events and refusals are stored. They outlive the classes: never change one, add another."""

from __future__ import annotations

from allocation.domain import events, model
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

CLOUD_EVENTS = CloudEvents(CODEC, source="/allocation", prefix="allocation")

REFUSALS: dict[str, type[Exception]] = {
    "invalid_sku": model.InvalidSku,
    "unknown_batch": model.UnknownBatch,
    "batch_conflict": model.BatchConflict,
    "line_conflict": model.LineConflict,
    "stale_batch": model.StaleBatch,
}
