"""Batches by the day on which they come due, for whoever records that it has passed, and those of which it is."""

from __future__ import annotations

from sqlalchemy import text

from allocation.database.migrations.online import create_index, drop_index

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("batches_coming", "batches", [text("(eta + 1)")], where="eta IS NOT NULL AND NOT overdue")
    create_index("batches_overdue", "batches", ["eta"], where="overdue")
    create_index("batches_expiring", "batches", [text("(expires + 1)")], where="expires IS NOT NULL AND NOT expired")


def downgrade() -> None:
    drop_index("batches_expiring", "batches")
    drop_index("batches_overdue", "batches")
    drop_index("batches_coming", "batches")
