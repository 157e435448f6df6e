"""How far the stream of commands was handled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stream_positions",
        sa.Column("stream", sa.Text(collation="C"), nullable=False),
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("stream"),
        comment="How far each stream of messages was handled, written with what its last entry has brought about.",
        postgresql_with={"fillfactor": "50"},
    )


def downgrade() -> None:
    op.drop_table("stream_positions")
