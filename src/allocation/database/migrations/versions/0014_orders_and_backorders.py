"""Lines that wait, the terms of lines, and where batches lie. Columns have defaults, so that they are there at once
however many rows there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_KEY = sa.Text(collation="C")
_PRODUCTS = "One row a SKU that was ever purchased; its version is the number of its events"
_LINES = "Which allocations a line has, by SKU and versions, and how much of it came back: unique across SKUs."


def upgrade() -> None:
    op.add_column("products", sa.Column("waiting", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_table_comment("products", f"{_PRODUCTS}, and so many of its lines are backordered.")
    op.add_column("batches", sa.Column("location", _KEY, server_default=sa.text("''"), nullable=False))
    op.add_column("order_lines", sa.Column("since", sa.BigInteger(), nullable=True))
    op.add_column("order_lines", sa.Column("terms", postgresql.JSONB(), nullable=True))
    op.create_table_comment(
        "order_lines",
        f"{_LINES} A line that may wait has terms, and is served in the turn of the version since which it is known.",
    )
    op.add_column("orders", sa.Column("placed", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("orders", "placed", server_default=sa.text("now()"))  # of those to come
    op.add_column("allocations", sa.Column("priority", sa.SmallInteger(), server_default=sa.text("5"), nullable=False))
    op.create_table(
        "backorders",
        sa.Column("sku", _KEY, nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("orderid", _KEY, nullable=False),
        sa.Column("lineid", _KEY, nullable=False),
        sa.Column("qty", sa.Integer(), nullable=False),
        sa.Column("needs", sa.Integer(), nullable=False),
        sa.Column("turn", sa.SmallInteger(), nullable=False),
        sa.Column("needed_by", sa.Date(), nullable=True),
        sa.Column("places", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("0 < needs AND needs <= qty", name="backorders_quantities"),
        sa.PrimaryKeyConstraint("sku", "since"),
        comment="Lines that wait, and the least that each takes of a batch: all that it waits for, or 1 if it may be "
        "split. They are served by turn, which is -priority, and since. places has a bit for each location that will "
        "do.",
    )
    columns = ["sku", "needs", "turn", "since"]
    op.create_index("backorders_in_turn", "backorders", columns, postgresql_include=["needed_by", "places"])
    op.create_index("backorders_by_turn", "backorders", ["sku", "turn", "since"])


def downgrade() -> None:
    """For a database in which nothing of this was used."""
    op.drop_table("backorders")
    op.drop_column("allocations", "priority")
    op.drop_column("orders", "placed")
    op.create_table_comment("order_lines", _LINES)
    op.drop_column("order_lines", "terms")
    op.drop_column("order_lines", "since")
    op.drop_column("batches", "location")
    op.create_table_comment("products", f"{_PRODUCTS}.")
    op.drop_column("products", "waiting")
