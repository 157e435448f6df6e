"""Indexes for what is asked over HTTP: the log in the order of commits, and of one order; exhausted batches."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("event_log_in_order", "event_log", ["transaction_id", "position"])
    op.create_index("event_log_of_order", "event_log", [text("(data ->> 'orderid') text_pattern_ops")])
    op.create_index("batches_exhausted", "batches", ["sku"], postgresql_where=text("NOT is_open"))


def downgrade() -> None:
    op.drop_index("batches_exhausted", "batches")
    op.drop_index("event_log_of_order", "event_log")
    op.drop_index("event_log_in_order", "event_log")
