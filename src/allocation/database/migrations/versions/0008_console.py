"""Who is signed in to the console."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "console_sessions",
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("principal", sa.Text(collation="C"), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token"),
        comment="Who is signed in to the console, by the hash of their token.",
    )


def downgrade() -> None:
    op.drop_table("console_sessions")
