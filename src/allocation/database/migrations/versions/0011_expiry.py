"""Open batches in the order of preference, of which expiry is a part now; a line may have a row for each batch in the
read model. The index of the release before stays, for its processes."""

from __future__ import annotations

from alembic import op
from sqlalchemy import TextClause, text

from allocation.database.migrations.online import create_index, drop_index

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COMMENT = "The read model of GET /allocations/<orderid>"


def upgrade() -> None:
    columns: list[str | TextClause] = ["sku", text("eta NULLS FIRST"), "expires", "added"]
    create_index("batches_in_turn", "batches", columns, where="is_open")
    _key_of_view("orderid", "lineid", "position")
    op.create_table_comment(
        "allocations_view",
        f"{_COMMENT}: what a line has of a batch, promised or dispatched. position is the order of allocation.",
    )


def downgrade() -> None:
    op.create_table_comment("allocations_view", f"{_COMMENT}; position is the order of allocation.")
    _key_of_view("orderid", "lineid")
    drop_index("batches_in_turn", "batches")


def _key_of_view(*columns: str) -> None:
    create_index("allocations_view_key", "allocations_view", columns, unique=True)
    op.execute(
        "ALTER TABLE allocations_view DROP CONSTRAINT allocations_view_pkey, "
        "ADD CONSTRAINT allocations_view_pkey PRIMARY KEY USING INDEX allocations_view_key"
    )
