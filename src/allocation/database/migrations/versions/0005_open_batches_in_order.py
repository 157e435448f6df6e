"""What is open of a SKU can be read in the order of preference, so the best batch needs no look at the others."""

from __future__ import annotations

from alembic import op
from sqlalchemy import TextClause, text

from allocation.database.migrations.online import create_index

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _index_open_batches("sku", text("eta NULLS FIRST"), "added")


def downgrade() -> None:
    _index_open_batches("sku")


def _index_open_batches(*columns: str | TextClause) -> None:
    create_index("batches_open_anew", "batches", columns, where="is_open")
    op.execute("DROP INDEX batches_open")
    op.execute("ALTER INDEX batches_open_anew RENAME TO batches_open")
