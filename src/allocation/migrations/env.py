"""Run by Alembic: it has a connection, and everything happens in its transaction."""

from __future__ import annotations

from alembic import context

from allocation.adapters import tables
from messaging.sql import tables as messaging_tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=[messaging_tables.metadata, tables.metadata],
)
context.run_migrations()
