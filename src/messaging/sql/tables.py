"""The machinery's tables. A stream is one aggregate's history; every table carries it, so that all can be partitioned.

Rows that are updated often leave room on their page (fillfactor), and no index covers what changes in them, so that
an update stays on its page and leaves no index entry behind (HOT).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = MetaData()

Moment = DateTime(timezone=True)
Key = Text(collation="C")  # compared byte by byte, so that order does not depend on the machine

event_log = Table(
    "event_log",
    metadata,
    Column("stream", Key, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("transaction_id", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Column("id", UUID(as_uuid=False), nullable=False),
    Column("type", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("causation_id", Text),
    Column("source", Text, nullable=False),
    Column("time", Moment, nullable=False),
    Column("effects", JSONB, nullable=False),
    Column("principal", Text),
    Index("event_log_in_order", "transaction_id", "position"),
    comment="What happened, for good. UNIQUE (stream, version) is the optimistic lock.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("effect", Key, primary_key=True),
    Column("stream", Key, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("faults", Integer, nullable=False, server_default=text("0")),
    Column("reason", Text),
    Column("first_failed_at", Moment),
    Column("last_failed_at", Moment),
    Column("retry_at", Moment),
    Column("dead_at", Moment),
    comment="Effects still to be carried out. A row goes when it is done; a dead one stays and holds its stream.",
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("effect", Key, primary_key=True),
    Column("stream", Key, primary_key=True),
    Column("delivered_version", BigInteger, nullable=False, server_default=text("0")),
    Column("delivered_count", BigInteger, nullable=False, server_default=text("0")),
    Column("token", BigInteger, nullable=False, server_default=text("1")),
    Column("claimed_by", Text),
    Column("claimed_until", Moment),
    comment="How far each effect of a stream has got, and which relay is at it. The token rises with every claim.",
    postgresql_with={"fillfactor": "70"},
)

dropped_effects = Table(
    "dropped_effects",
    metadata,
    Column("effect", Key, primary_key=True),
    Column("stream", Key, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("dropped_by", Text, nullable=False),
    Column("dropped_at", Moment, nullable=False, server_default=text("now()")),
    comment="Dead effects that someone decided will never happen; they count as delivered.",
)

inbox = Table(
    "inbox",
    metadata,
    Column("message_id", Key, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("outcome", JSONB, nullable=False),
    Column("received_at", Moment, nullable=False, server_default=text("now()")),
    Index("inbox_received_at", "received_at"),
    comment="Messages that took effect, or were refused, with the answer to give when they come again.",
)

stream_positions = Table(
    "stream_positions",
    metadata,
    Column("stream", Key, primary_key=True),
    Column("entry_id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("answered", Text),
    Column("as_of", Text),
    comment="How far each stream of messages was handled, written with what its last entry has brought about. "
    "All up to answered needs nothing any more, as of that entry.",
    postgresql_with={"fillfactor": "50"},
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("source", Text, nullable=False),
    Column("message_id", Text),
    Column("body", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("1")),
    Column("first_failed_at", Moment, nullable=False, server_default=text("now()")),
    Column("last_failed_at", Moment, nullable=False, server_default=text("now()")),
    Index("dead_letters_message", "source", "message_id", unique=True, postgresql_where=text("message_id IS NOT NULL")),
    comment="Messages from outside that could not be read or were refused, as they came.",
)

# In the database they have the name that they were given at first.
stripes = [
    Table(f"lane_{number:02}", metadata, comment="Nobody's rows: a queue for those who write hot streams.")
    for number in range(16)
]
