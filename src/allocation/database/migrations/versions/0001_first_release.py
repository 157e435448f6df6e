"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Messages from outside that could not be read or were refused, as they came.",
    )
    op.create_table(
        "deliveries",
        sa.Column("effect", _KEY, nullable=False),
        sa.Column("stream", _KEY, nullable=False),
        sa.Column("delivered_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("delivered_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("token", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("effect", "stream"),
        comment="How far each effect of a stream has got, and which relay is at it. The token rises with every claim.",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "dropped_effects",
        sa.Column("effect", _KEY, nullable=False),
        sa.Column("stream", _KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("dropped_by", sa.Text(), nullable=False),
        sa.Column("dropped_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("effect", "stream", "version"),
        comment="Dead effects that someone decided will never happen; they count as delivered.",
    )
    op.create_table(
        "event_log",
        sa.Column("stream", _KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "transaction_id",
            sa.BigInteger(),
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
            nullable=False,
        ),
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("causation_id", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("effects", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "version"),
        comment="What happened, for good. UNIQUE (stream, version) is the optimistic lock.",
    )
    op.create_index("event_log_position", "event_log", ["position"], unique=True)
    op.create_table(
        "inbox",
        sa.Column("message_id", _KEY, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("outcome", postgresql.JSONB(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
        comment="Messages that took effect, or were refused, with the answer to give when they come again.",
    )
    op.create_index("inbox_received_at", "inbox", ["received_at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("effect", _KEY, nullable=False),
        sa.Column("stream", _KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("faults", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dead_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("effect", "stream", "version"),
        comment="Effects still to be carried out. A row goes when it is done; a dead one stays and holds its stream.",
    )
    op.create_table(
        "allocations",
        sa.Column("sku", _KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("orderid", _KEY, nullable=False),
        sa.Column("lineid", _KEY, nullable=False),
        sa.Column("qty", sa.Integer(), nullable=False),
        sa.Column("batchref", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("sku", "version"),
        comment="The promises, each under the version of its product that made it: the higher the newer.",
    )
    op.create_index("allocations_of_batch", "allocations", ["sku", "batchref", "version"], unique=False)
    op.create_table(
        "allocations_view",
        sa.Column("orderid", _KEY, nullable=False),
        sa.Column("lineid", _KEY, nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sku", _KEY, nullable=False),
        sa.Column("qty", sa.Integer(), nullable=False),
        sa.Column("batchref", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("orderid", "lineid"),
        comment="The read model of GET /allocations/<orderid>; position is the order of allocation.",
    )
    op.create_table(
        "batch_references",
        sa.Column("reference", _KEY, nullable=False),
        sa.Column("sku", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("reference"),
        comment="Whose batch a reference is: unique across SKUs.",
    )
    op.create_table(
        "batches",
        sa.Column("sku", _KEY, nullable=False),
        sa.Column("reference", _KEY, nullable=False),
        sa.Column("eta", sa.Date(), nullable=True),
        sa.Column("initial_quantity", sa.BigInteger(), nullable=False),
        sa.Column("purchased_quantity", sa.BigInteger(), nullable=False),
        sa.Column("allocated_quantity", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column(
            "is_open",
            sa.Boolean(),
            sa.Computed("allocated_quantity < purchased_quantity", persisted=True),
            nullable=False,
        ),
        sa.CheckConstraint(
            "0 <= allocated_quantity AND allocated_quantity <= purchased_quantity", name="batches_never_oversold"
        ),
        sa.PrimaryKeyConstraint("sku", "reference"),
        comment="Purchased stock. is_open keeps the counters out of the index predicate, so that updates stay HOT.",
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("batches_open", "batches", ["sku"], unique=False, postgresql_where=sa.text("is_open"))
    op.create_table(
        "order_lines",
        sa.Column("orderid", _KEY, nullable=False),
        sa.Column("lineid", _KEY, nullable=False),
        sa.Column("sku", _KEY, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("orderid", "lineid"),
        comment="Which allocation a line has, by SKU and version: unique across SKUs.",
    )
    op.create_table(
        "products",
        sa.Column("sku", _KEY, nullable=False),
        sa.Column("version_number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sku"),
        comment="One row a SKU that was ever purchased; its version is the number of its events.",
        postgresql_with={"fillfactor": "50"},
    )


def downgrade() -> None:
    op.drop_table("products")
    op.drop_table("order_lines")
    op.drop_table("batches")
    op.drop_table("batch_references")
    op.drop_table("allocations_view")
    op.drop_table("allocations")
    op.drop_table("outbox")
    op.drop_table("inbox")
    op.drop_table("event_log")
    op.drop_table("dropped_effects")
    op.drop_table("deliveries")
    op.drop_table("dead_letters")
