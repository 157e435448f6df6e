"""Promises of a batch in the order in which they are broken. The index of the release before stays, for its
processes."""

from __future__ import annotations

from sqlalchemy import TextClause, text

from allocation.database.migrations.online import create_index, drop_index

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns: list[str | TextClause] = ["sku", "batchref", "priority", text("(-version)")]
    create_index("allocations_to_break", "allocations", columns, where="qty > 0")


def downgrade() -> None:
    drop_index("allocations_to_break", "allocations")
