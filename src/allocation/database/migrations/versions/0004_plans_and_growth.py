"""Each question has one index that can answer it, and an index that nobody reads is gone."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("event_log_position", "event_log")
    _key_batches_by("reference", "sku")


def downgrade() -> None:
    _key_batches_by("sku", "reference")
    op.create_index("event_log_position", "event_log", ["position"], unique=True)


def _key_batches_by(*columns: str) -> None:
    op.drop_constraint("batches_pkey", "batches")
    op.create_primary_key("batches_pkey", "batches", list(columns))
