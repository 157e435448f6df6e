"""Run by Alembic: it has a connection, and each revision a transaction of its own."""

from __future__ import annotations

from alembic import context

from allocation.database import tables
from messaging.sql import tables as messaging_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=[messaging_tables.metadata, tables.metadata],
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
