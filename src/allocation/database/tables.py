"""The service's own tables. All that is written for an allocation carries the SKU, so that it can be partitioned by it;
what must be unique across SKUs, a batch reference or an order line, is keyed by that in a table of its own.

Text is compared byte by byte (collation C): case matters, and order does not depend on the machine.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    and_,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from messaging.sql.tables import event_log

metadata = MetaData()

Key = Text(collation="C")

products = Table(
    "products",
    metadata,
    Column("sku", Key, primary_key=True),
    Column("version_number", BigInteger, nullable=False),
    Column("waiting", BigInteger, nullable=False, server_default=text("0")),
    Column("holds", BigInteger, nullable=False, server_default=text("0")),
    comment="One row a SKU that was ever purchased; its version is the number of its events, so many of its lines are "
    "backordered, and it has so many holds.",
    postgresql_with={"fillfactor": "50"},
)

batches = Table(
    "batches",
    metadata,
    Column("sku", Key, nullable=False),
    Column("reference", Key, nullable=False),
    Column("eta", Date),
    Column("initial_quantity", BigInteger, nullable=False),
    Column("purchased_quantity", BigInteger, nullable=False),
    Column("allocated_quantity", BigInteger, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("is_open", Boolean, Computed("allocated_quantity < purchased_quantity", persisted=True), nullable=False),
    Column("expires", Date),
    Column("initial_eta", Date),
    Column("initial_expires", Date),
    Column("held_quantity", BigInteger, nullable=False, server_default=text("0")),
    Column("dispatched_quantity", BigInteger, nullable=False, server_default=text("0")),
    Column("quarantined_quantity", BigInteger, nullable=False, server_default=text("0")),
    Column("location", Key, nullable=False, server_default=text("''")),
    Column("overdue", Boolean, nullable=False, server_default=text("false")),
    Column("expired", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("reference", "sku"),  # in this order no planner takes it to find what is open of a SKU
    CheckConstraint(
        "0 <= allocated_quantity AND allocated_quantity <= purchased_quantity", name="batches_never_oversold"
    ),
    CheckConstraint(
        "held_quantity >= 0 AND dispatched_quantity >= 0 AND quarantined_quantity >= 0 "
        "AND held_quantity + dispatched_quantity + quarantined_quantity <= allocated_quantity",
        name="batches_parts",
    ),
    CheckConstraint("dispatched_quantity = 0 OR eta IS NULL", name="batches_dispatched_are_here"),
    comment="Purchased stock. is_open keeps the counters out of the index predicate, so that updates stay HOT. "
    "overdue and expired: it is recorded that the day has passed.",
    postgresql_with={"fillfactor": "50"},
)
Index(
    "batches_in_turn",
    batches.c.sku,
    batches.c.eta.nulls_first(),
    batches.c.expires,
    batches.c.added,
    postgresql_where=batches.c.is_open,
)
# Processes of the release before this one read by it, as long as any of them runs.
Index("batches_open", batches.c.sku, batches.c.eta.nulls_first(), batches.c.added, postgresql_where=batches.c.is_open)
Index("batches_exhausted", batches.c.sku, postgresql_where=~batches.c.is_open)
# For the clock: what comes due on which day. By an expression, so that no planner takes another index for it.
Index(
    "batches_coming",
    (batches.c.eta + text("1")).label("due"),
    postgresql_where=batches.c.eta.is_not(None) & ~batches.c.overdue,
)
Index("batches_overdue", batches.c.eta, postgresql_where=batches.c.overdue)
Index(
    "batches_expiring",
    (batches.c.expires + text("1")).label("due"),
    postgresql_where=batches.c.expires.is_not(None) & ~batches.c.expired,
)
Index("batches_quarantined", batches.c.reference, postgresql_where=batches.c.quarantined_quantity > text("0"))
Index("batches_expected", batches.c.sku, batches.c.eta, postgresql_where=batches.c.eta.is_not(None))

batch_references = Table(
    "batch_references",
    metadata,
    Column("reference", Key, primary_key=True),
    Column("sku", Key, nullable=False),
    comment="Whose batch a reference is: unique across SKUs.",
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("orderid", Key, primary_key=True),
    Column("lineid", Key, primary_key=True),
    Column("sku", Key, nullable=False),
    Column("version", BigInteger),
    Column("others", ARRAY(BigInteger)),
    Column("returned", Integer, nullable=False, server_default=text("0")),
    Column("since", BigInteger),
    Column("terms", JSONB),
    comment="Which allocations a line has, by SKU and versions, and how much of it came back: unique across SKUs. A "
    "line that may wait has terms, and is served in the turn of the version since which it is known.",
)

backorders = Table(
    "backorders",
    metadata,
    Column("sku", Key, primary_key=True),
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("orderid", Key, nullable=False),
    Column("lineid", Key, nullable=False),
    Column("qty", Integer, nullable=False),
    Column("needs", Integer, nullable=False),
    Column("turn", SmallInteger, nullable=False),
    Column("needed_by", Date),
    Column("places", BigInteger, nullable=False),
    CheckConstraint("0 < needs AND needs <= qty", name="backorders_quantities"),
    comment="Lines that wait, and the least that each takes of a batch: all that it waits for, or 1 if it may be "
    "split. They are served by turn, which is -priority, and since. places has a bit for each location that will "
    "do.",
)
Index(
    "backorders_in_turn",
    *(backorders.c[name] for name in ("sku", "needs", "turn", "since")),
    postgresql_include=["needed_by", "places"],
)
Index("backorders_by_turn", backorders.c.sku, backorders.c.turn, backorders.c.since)
# An entry of an index may have 2,704 bytes, and a name 1,020: there is room for two.
Index(
    "backorders_by_day",
    *(backorders.c[name] for name in ("needed_by", "sku", "since")),
    postgresql_where=backorders.c.needed_by.is_not(None),
)
Index(
    "backorders_of_sku_by_day",
    *(backorders.c[name] for name in ("sku", "needed_by", "since")),
    postgresql_where=backorders.c.needed_by.is_not(None),
)

holds = Table(
    "holds",
    metadata,
    Column("sku", Key, primary_key=True),
    Column("hold_id", Key, primary_key=True),
    Column("qty", Integer, nullable=False),
    Column("batchref", Key, nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("qty > 0", name="holds_quantity"),
    Index("holds_of_batch", "batchref", "version"),
    Index("holds_until", "sku", "until"),
    Index("holds_due", "until"),
    comment="Stock that is held for nobody's line yet, until an instant, at which it is free: a row that is still "
    "there then counts for nothing. version is that of its product when it was placed: the higher the newer.",
)

orders = Table(
    "orders",
    metadata,
    Column("orderid", Key, primary_key=True),
    Column("cancelled", Boolean, nullable=False, server_default=text("false")),
    Column("placed", DateTime(timezone=True), server_default=text("now()")),
    comment="Written by whoever gives an order a line and by whoever cancels it, so that they can't both win. An order "
    "without a row is open.",
    postgresql_with={"fillfactor": "80"},
)

documents = Table(
    "documents",
    metadata,
    Column("about", Key, nullable=False),
    Column("part", Key, nullable=False),
    Column("kind", Key, nullable=False),
    Column("number", Key, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("sku", Key, nullable=False),
    PrimaryKeyConstraint("about", "part", "kind", "number", "version"),
    comment="What a warehouse has said under a number of its own: it counts once. What it said is in the log.",
)

allocations = Table(
    "allocations",
    metadata,
    Column("sku", Key, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("orderid", Key, nullable=False),
    Column("lineid", Key, nullable=False),
    Column("qty", Integer, nullable=False),
    Column("batchref", Key, nullable=False),
    Column("dispatched", Integer, nullable=False, server_default=text("0")),
    Column("priority", SmallInteger, nullable=False, server_default=text("5")),
    Column("needed_by", Date),
    CheckConstraint("qty >= 0 AND dispatched >= 0", name="allocations_quantities"),
    # Processes of the release before this one read by it, as long as any of them runs.
    Index("allocations_of_batch", "sku", "batchref", "version"),
    comment="What a line has of a batch: promised (qty), and dispatched. Each under the version of its product that "
    "made the promise: the higher the newer. priority and needed_by are the line's.",
)
Index(
    "allocations_to_break",
    allocations.c.sku,
    allocations.c.batchref,
    allocations.c.priority,
    (-allocations.c.version).label("newest"),
    postgresql_where=allocations.c.qty > text("0"),
)
Index(  # not by SKU, as a reference has one: so no planner takes another index for it
    "allocations_by_day",
    *(allocations.c[name] for name in ("batchref", "needed_by", "version")),
    postgresql_where=and_(allocations.c.qty > text("0"), allocations.c.needed_by.is_not(None)),
)

allocations_view = Table(
    "allocations_view",
    metadata,
    Column("orderid", Key, nullable=False),
    Column("lineid", Key, nullable=False),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("sku", Key, nullable=False),
    Column("qty", Integer, nullable=False),
    Column("batchref", Key, nullable=False),
    PrimaryKeyConstraint("orderid", "lineid", "position"),
    comment="The read model of GET /allocations/<orderid>: what a line has of a batch, promised or dispatched. "
    "position is the order of allocation.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("name", Key, primary_key=True),
    Column("id", Key, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("rate", Integer),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Column("revoked_by", Text),
    comment="Who may ask the API for what. Rows stay: a name in the event log must always mean the same key.",
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("token", LargeBinary, primary_key=True),
    Column("principal", Key, nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    comment="Who is signed in to the console, by the hash of their token.",
)

ORDER_OF_EVENT = "(data ->> 'orderid')"
"""Of events about an order line, in the log. The machinery knows no orders, so their index is ours."""

Index(
    "event_log_of_order",
    event_log.c.data["orderid"].astext.label("orderid"),
    postgresql_ops={"orderid": "text_pattern_ops"},  # byte by byte
)
