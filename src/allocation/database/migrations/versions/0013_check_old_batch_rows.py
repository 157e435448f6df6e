"""Old rows are looked at while others write."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE batches VALIDATE CONSTRAINT batches_parts")
    op.execute("ALTER TABLE batches VALIDATE CONSTRAINT batches_dispatched_are_here")
    op.execute("ALTER TABLE allocations VALIDATE CONSTRAINT allocations_quantities")


def downgrade() -> None:
    """What is known to hold does no harm."""
