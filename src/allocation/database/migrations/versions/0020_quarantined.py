"""Batches of which something is in quarantine, for whoever lists them."""

from __future__ import annotations

from allocation.database.migrations.online import create_index, drop_index

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_index("batches_quarantined", "batches", ["reference"], where="quarantined_quantity > 0")


def downgrade() -> None:
    drop_index("batches_quarantined", "batches")
