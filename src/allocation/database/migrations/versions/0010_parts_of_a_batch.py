"""What has become of a batch, part by part; orders that can be cancelled; documents. Columns have defaults, so that
they are there at once however many rows there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KEY = sa.Text(collation="C")
_PARTS = ("held_quantity", "dispatched_quantity", "quarantined_quantity")
_DAYS = ("expires", "initial_eta", "initial_expires")


def upgrade() -> None:
    for name in _DAYS:
        op.add_column("batches", sa.Column(name, sa.Date(), nullable=True))
    for name in _PARTS:
        op.add_column("batches", sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.alter_column("order_lines", "version", nullable=True)
    op.add_column("order_lines", sa.Column("others", postgresql.ARRAY(sa.BigInteger()), nullable=True))
    op.add_column("order_lines", sa.Column("returned", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("allocations", sa.Column("dispatched", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table_comment(
        "order_lines",
        "Which allocations a line has, by SKU and versions, and how much of it came back: unique across SKUs.",
    )
    op.create_table_comment(
        "allocations",
        "What a line has of a batch: promised (qty), and dispatched. Each under the version of its product that made "
        "the promise: the higher the newer.",
    )
    op.create_table(
        "orders",
        sa.Column("orderid", _KEY, nullable=False),
        sa.Column("cancelled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("orderid"),
        comment="Written by whoever gives an order a line and by whoever cancels it, so that they can't both win. "
        "An order without a row is open.",
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "documents",
        sa.Column("about", _KEY, nullable=False),
        sa.Column("part", _KEY, nullable=False),
        sa.Column("kind", _KEY, nullable=False),
        sa.Column("number", _KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("sku", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("about", "part", "kind", "number", "version"),
        comment="What a warehouse has said under a number of its own: it counts once. What it said is in the log.",
    )


def downgrade() -> None:
    """For a database in which nothing of this was used: lines without a promise are forgotten."""
    op.drop_table("documents")
    op.drop_table("orders")
    op.drop_column("allocations", "dispatched")
    op.drop_column("order_lines", "returned")
    op.drop_column("order_lines", "others")
    op.execute("DELETE FROM order_lines WHERE version IS NULL")
    op.alter_column("order_lines", "version", nullable=False)
    for name in (*_PARTS, *_DAYS):
        op.drop_column("batches", name)
    op.create_table_comment("order_lines", "Which allocation a line has, by SKU and version: unique across SKUs.")
    op.create_table_comment(
        "allocations", "The promises, each under the version of its product that made it: the higher the newer."
    )
