"""The same tables cut into hash partitions, to see that nothing we ask or write minds.

What belongs to a product goes by SKU or stream; what is unique across products by its own identity.
"""

from __future__ import annotations

from sqlalchemy import Connection, Index, MetaData, Table, text
from sqlalchemy.schema import CreateTable, DropTable

from allocation.database import tables as ours
from messaging.sql import tables as machinery

KEYS = {
    ours.products: "sku",
    ours.batches: "sku",
    ours.allocations: "sku",
    ours.backorders: "sku",
    ours.holds: "sku",
    ours.batch_references: "reference",
    ours.order_lines: "orderid",
    ours.allocations_view: "orderid",
    machinery.event_log: "stream",
    machinery.outbox: "stream",
    machinery.deliveries: "stream",
    machinery.dropped_effects: "stream",
    machinery.inbox: "message_id",
    machinery.stream_positions: "stream",
}


def partition(connection: Connection, number: int) -> None:
    """Cut the tables of a migrated database, in which there is nothing yet, into so many partitions each.

    Needs PostgreSQL 17, since two of them have an identity column.
    """
    for table, key in KEYS.items():
        connection.execute(DropTable(table))
        whole = _partitioned(table, key)
        connection.execute(CreateTable(whole))
        for remainder in range(number):
            connection.execute(text(_part(table, number, remainder)))
        for index in whole.indexes:
            index.create(connection)


def _partitioned(table: Table, key: str) -> Table:
    whole = table.to_metadata(MetaData())
    whole.dialect_options["postgresql"]["partition_by"] = f"HASH ({key})"
    whole.dialect_options["postgresql"]["with"] = None  # is for the parts to say
    for index in list(whole.indexes):
        if index.unique:  # a unique key must hold the partition's: what is left of this one is the order
            whole.indexes.remove(index)
            Index(index.name, *(whole.c[column.name] for column in index.columns))
    return whole


def _part(table: Table, modulus: int, remainder: int) -> str:
    settings = table.dialect_options["postgresql"]["with"] or {}
    its_settings = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return (
        f"CREATE TABLE {table.name}_{remainder} PARTITION OF {table.name} "
        f"FOR VALUES WITH (MODULUS {modulus}, REMAINDER {remainder})"
        + (f" WITH ({its_settings})" if its_settings else "")
    )
