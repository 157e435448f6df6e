"""Who may ask, and who has asked. The new column has no default, so it is there at once however long the log is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = sa.Text(collation="C")


def upgrade() -> None:
    op.add_column("event_log", sa.Column("principal", sa.Text(), nullable=True))
    op.create_table(
        "api_keys",
        sa.Column("name", _KEY, nullable=False),
        sa.Column("id", _KEY, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
        comment="Who may ask the API for what. Rows stay: a name in the event log must always mean the same key.",
    )


def downgrade() -> None:
    op.drop_table("api_keys")
    op.drop_column("event_log", "principal")
