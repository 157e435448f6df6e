"""Indexes for what is asked over HTTP: the log in the order of commits, and of one order; exhausted batches."""

from __future__ import annotations

from sqlalchemy import text

from allocation.database.migrations.online import create_index, drop_index

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("event_log_in_order", "event_log", ["transaction_id", "position"])
    create_index("event_log_of_order", "event_log", [text("(data ->> 'orderid') text_pattern_ops")])
    create_index("batches_exhausted", "batches", ["sku"], where="NOT is_open")


def downgrade() -> None:
    drop_index("batches_exhausted", "batches")
    drop_index("event_log_of_order", "event_log")
    drop_index("event_log_in_order", "event_log")
