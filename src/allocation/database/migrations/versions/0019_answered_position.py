"""Of the stream of commands also how far it was answered, as of the entry that was handled last. A process of the
release before that runs beside this one writes neither, so what it leaves is for another entry, and does not count."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_BEFORE = "How far each stream of messages was handled, written with what its last entry has brought about."


def upgrade() -> None:
    op.add_column("stream_positions", sa.Column("answered", sa.Text(), nullable=True))
    op.add_column("stream_positions", sa.Column("as_of", sa.Text(), nullable=True))
    op.create_table_comment(
        "stream_positions",
        f"{_BEFORE} All up to answered needs nothing any more, as of that entry.",
        existing_comment=_BEFORE,
    )


def downgrade() -> None:
    op.create_table_comment("stream_positions", _BEFORE)
    op.drop_column("stream_positions", "as_of")
    op.drop_column("stream_positions", "answered")
