"""Holds, and that the day of a batch has passed. Columns have defaults, so that they are there at once however many
rows there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_KEY = sa.Text(collation="C")
_PRODUCTS = "One row a SKU that was ever purchased; its version is the number of its events,"
_BATCHES = "Purchased stock. is_open keeps the counters out of the index predicate, so that updates stay HOT."


def upgrade() -> None:
    op.add_column("products", sa.Column("holds", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_table_comment("products", f"{_PRODUCTS} so many of its lines are backordered, and it has so many holds.")
    for name in ("overdue", "expired"):
        op.add_column("batches", sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_table_comment("batches", f"{_BATCHES} overdue and expired: it is recorded that the day has passed.")
    op.create_table(
        "holds",
        sa.Column("sku", _KEY, nullable=False),
        sa.Column("hold_id", _KEY, nullable=False),
        sa.Column("qty", sa.Integer(), nullable=False),
        sa.Column("batchref", _KEY, nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("qty > 0", name="holds_quantity"),
        sa.PrimaryKeyConstraint("sku", "hold_id"),
        comment="Stock that is held for nobody's line yet, until an instant, at which it is free: a row that is still "
        "there then counts for nothing. version is that of its product when it was placed: the higher the newer.",
    )
    op.create_index("holds_of_batch", "holds", ["batchref", "version"])
    op.create_index("holds_until", "holds", ["sku", "until"])
    op.create_index("holds_due", "holds", ["until"])


def downgrade() -> None:
    """For a database in which nothing of this was used."""
    op.drop_table("holds")
    op.create_table_comment("batches", _BATCHES)
    for name in ("expired", "overdue"):
        op.drop_column("batches", name)
    op.create_table_comment("products", f"{_PRODUCTS} and so many of its lines are backordered.")
    op.drop_column("products", "holds")
