"""Every event is told, not allocations only; a dead message that has an id is kept once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OLD, _NEW = "publish_line_allocated", "publish_event"


def upgrade() -> None:
    op.create_index(
        "dead_letters_message",
        "dead_letters",
        ["source", "message_id"],
        unique=True,
        postgresql_where=sa.text("message_id IS NOT NULL"),
    )
    _rename(_OLD, _NEW)


def downgrade() -> None:
    _rename(_NEW, _OLD)
    op.drop_index("dead_letters_message", "dead_letters")


def _rename(old: str, new: str) -> None:
    for table in ("outbox", "deliveries", "dropped_effects"):
        op.execute(f"UPDATE {table} SET effect = '{new}' WHERE effect = '{old}'")  # noqa: S608 - all of it is our own
    op.execute(
        f"""UPDATE event_log SET effects = effects - '{old}' || '["{new}"]' WHERE effects ? '{old}'"""  # noqa: S608
    )
