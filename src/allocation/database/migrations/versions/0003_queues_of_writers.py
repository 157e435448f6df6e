"""Tables without columns, for writers of hot products to queue up at."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_LANES = [f"lane_{number:02}" for number in range(16)]


def upgrade() -> None:
    for lane in _LANES:
        op.create_table(lane, comment="Nobody's rows: a queue for those who write hot streams.")


def downgrade() -> None:
    for lane in _LANES:
        op.drop_table(lane)
