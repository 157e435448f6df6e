"""The outbox as relays see it: claims on streams, and what was delivered.

A claim must see what was committed while it waited for a lock: READ COMMITTED, or a statement of its own.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import takewhile
from threading import get_ident
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, Row, text

from messaging.codec import Codec
from messaging.outbox.claims import Claim, Failure, OutboxMessage
from messaging.sql.connections import connection
from messaging.sql.event_log import RECORDED, recorded_from

_INTEGER, _BIGINT = 2**31 - 1, 2**63 - 1
"""The largest of each."""


def _plus(column: str, added: str, most: int) -> str:
    """Not beyond the largest: one damaged number would fail all that are written with it."""
    return f"least({column}, {most} - {added}) + {added}"


# A token is the moment of its claim in microseconds: it rises even when the database was restored from a backup.
_MOMENT = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_TOKEN = f"greatest({_plus('mine.token', '1', _BIGINT)}, {_MOMENT})"

# What will have failed only later failed before the clock was set back: its `retry_at` says nothing any more. Nor does
# one that is further ahead than anybody waits.
_IS_DUE = """(retry_at IS NULL OR retry_at <= clock_timestamp() OR last_failed_at > clock_timestamp()
              OR retry_at > clock_timestamp() + interval '1 hour')"""


def _is_free(table: str) -> str:
    """Nobody has the stream, or the thread that asks.

    A thread claims again only after settling. If settling failed, `claimed_by = :relay` gives it its own claims back at
    once, without waiting for the lease. No claim is made for longer than a lease: one that seems to last twice as long
    is from before the clock was set back, maybe of a relay that is dead.
    """
    return f"""({table}.claimed_until IS NULL OR {table}.claimed_until < clock_timestamp()
               OR {table}.claimed_until > clock_timestamp() + make_interval(secs => 2 * :lease)
               OR {table}.claimed_by = :relay)"""


# Visits each waiting stream once, by the primary key, however many messages wait in it; a stream whose first message is
# dead or not due is passed over, and one claimed by another relay too.
_CLAIM = text(f"""
    WITH RECURSIVE heads AS (
        (SELECT stream, retry_at, last_failed_at, dead_at FROM outbox
         WHERE effect = :effect AND stream > :after ORDER BY stream, version LIMIT 1)
        UNION ALL
        SELECT later.* FROM heads CROSS JOIN LATERAL (
            SELECT stream, retry_at, last_failed_at, dead_at FROM outbox
            WHERE effect = :effect AND stream > heads.stream ORDER BY stream, version LIMIT 1) AS later
    ), due AS (
        SELECT heads.stream FROM heads LEFT JOIN LATERAL (
            SELECT claimed_until, claimed_by FROM deliveries WHERE effect = :effect AND stream = heads.stream LIMIT 1
        ) AS delivery ON true
        WHERE heads.dead_at IS NULL AND {_IS_DUE}
          AND {_is_free("delivery")}
        LIMIT :streams
    )
    INSERT INTO deliveries AS mine (effect, stream, token, claimed_by, claimed_until)
    SELECT :effect, stream, {_MOMENT}, :relay, clock_timestamp() + make_interval(secs => :lease)
    FROM due ORDER BY stream
    ON CONFLICT (effect, stream) DO UPDATE
        SET token = {_TOKEN}, claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until
        WHERE {_is_free("mine")}
    RETURNING stream, token, delivered_version
""")  # noqa: S608 - the pieces are our own

# For streams by name, with or without messages. Here and below the planner is given the names too: from a join
# alone it may make a walk through all streams.
_CLAIM_THESE = text(f"""
    WITH free AS (
        SELECT stream FROM deliveries
        WHERE effect = :effect AND stream = ANY(:streams)
          AND {_is_free("deliveries")}
        ORDER BY stream FOR UPDATE SKIP LOCKED
    )
    UPDATE deliveries AS mine SET token = {_TOKEN}, claimed_by = :relay,
           claimed_until = clock_timestamp() + make_interval(secs => :lease)
    WHERE mine.effect = :effect AND mine.stream = ANY(ARRAY(SELECT stream FROM free))
    RETURNING mine.stream, mine.token, mine.delivered_version
""")  # noqa: S608 - the pieces are our own

_EXTEND = text("""
    UPDATE deliveries SET claimed_until = clock_timestamp() + make_interval(secs => :lease)
    FROM unnest(CAST(:streams AS text[]), CAST(:tokens AS bigint[])) AS held(stream, token)
    WHERE deliveries.effect = :effect AND deliveries.stream = ANY(CAST(:streams AS text[]))
      AND deliveries.stream = held.stream AND deliveries.token = held.token
      AND claimed_until IS NOT NULL
    RETURNING deliveries.stream
""")

# A head that another relay has just settled a failure of is dead, or not due: known only now.
_MESSAGES = text(f"""
    SELECT message.*, {RECORDED}
    FROM unnest(CAST(:streams AS text[])) AS claimed(stream)
    CROSS JOIN LATERAL (
        SELECT stream, version, attempts, faults,
               dead_at IS NULL AND {_IS_DUE} AS is_due FROM outbox
        WHERE effect = :effect AND stream = claimed.stream ORDER BY version LIMIT :messages) AS message
    LEFT JOIN event_log ON event_log.stream = message.stream AND event_log.version = message.version
    ORDER BY message.stream, message.version
""")  # noqa: S608 - the pieces are our own

# By the effect alone the planner would look through all of the outbox where it takes it for small: it is not given.
_DELIVERED = text(f"""
    WITH settled AS (
        SELECT * FROM unnest(CAST(:streams AS text[]), CAST(:tokens AS bigint[]), CAST(:counts AS bigint[]),
                             CAST(:versions AS bigint[]), CAST(:met AS bigint[]))
            AS settled(stream, token, count, version, met)
    ), still_ours AS (
        UPDATE deliveries SET claimed_until = NULL, claimed_by = NULL, token = greatest(deliveries.token, settled.met),
               delivered_count = {_plus("delivered_count", "settled.count", _BIGINT)},
               delivered_version = greatest(delivered_version, settled.version)
        FROM settled WHERE deliveries.effect = :effect AND deliveries.stream = ANY(CAST(:streams AS text[]))
                       AND deliveries.stream = settled.stream
                       AND deliveries.token = settled.token
        RETURNING deliveries.effect, deliveries.stream, settled.version
    ), gone AS (
        DELETE FROM outbox USING still_ours
        WHERE outbox.effect = still_ours.effect AND outbox.stream = still_ours.stream
          AND outbox.version <= still_ours.version
    )
    SELECT stream FROM still_ours
""")  # noqa: S608 - the pieces are our own

_FAILED = text(f"""
    UPDATE outbox SET attempts = {_plus("attempts", "1", _INTEGER)},
           faults = {_plus("faults", "CAST(:faults AS integer)", _INTEGER)}, reason = :reason, last_failed_at = now(),
           first_failed_at = coalesce(first_failed_at, now()),
           retry_at = now() + make_interval(secs => :retry_in),
           dead_at = CASE WHEN CAST(:retry_in AS float) IS NULL THEN now() END
    WHERE effect = :effect AND stream = :stream AND version = :version
""")  # noqa: S608 - the pieces are our own


class SqlDeliveries:
    def __init__(self, engine: Engine, codec: Codec, lease: float = 2.5, messages: int = 50) -> None:
        self.lease = lease
        self._engine = engine
        self._codec = codec
        self._messages = messages
        self._after: dict[str, str] = {}  # where the last claim of an effect ended: every stream gets its turn
        self._relay = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"

    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        after = self._after.get(effect, "")
        claims = self._claim_streams(effect, after, most)
        if not claims and after:
            claims = self._claim_streams(effect, "", most)
        if not claims:
            self._after[effect] = ""
            return []
        names = [claim.stream for claim in claims]
        self._after[effect] = max(names) if len(names) == most else ""
        with self._statement() as statement:  # after the claim was committed: nothing older can appear any more
            rows = statement.execute(_MESSAGES, {"effect": effect, "streams": names, "messages": self._messages}).all()
        by_stream = defaultdict(list)
        for row in rows:
            by_stream[row.stream].append(row)
        for claim in claims:
            claim.messages = [
                OutboxMessage(row.version, row.attempts, row.faults, partial(recorded_from, row, self._codec))
                for row in takewhile(lambda row: row.is_due, by_stream[claim.stream])
            ]
        return claims

    def claim_these(self, effect: str, streams: Collection[str]) -> list[Claim]:
        """Claim these streams as far as nobody has them, without their messages."""
        parameters = {"effect": effect, "streams": list(streams), "relay": self._name(), "lease": self.lease}
        with self._statement() as statement:
            return [_claim_in(row) for row in statement.execute(_CLAIM_THESE, parameters)]

    def _claim_streams(self, effect: str, after: str, most: int) -> list[Claim]:
        parameters = {
            "effect": effect,
            "after": after,
            "streams": most,
            "relay": self._name(),
            "lease": self.lease,
        }
        with self._statement() as statement:
            return [_claim_in(row) for row in statement.execute(_CLAIM, parameters)]

    def extend(self, effect: str, claims: Sequence[Claim]) -> Collection[str]:
        parameters = {
            "effect": effect,
            "streams": [claim.stream for claim in claims],
            "tokens": [claim.token for claim in claims],
            "lease": self.lease,
        }
        with self._statement() as statement:
            return set(statement.execute(_EXTEND, parameters).scalars())

    def settle(self, effect: str, claims: Sequence[Claim]) -> None:
        parameters = {
            "effect": effect,
            "streams": [claim.stream for claim in claims],
            "tokens": [claim.token for claim in claims],
            "counts": [len(claim.delivered) for claim in claims],
            "versions": [max(claim.delivered, default=0) for claim in claims],
            "met": [min(claim.met, _BIGINT) for claim in claims],
        }
        with self._transaction() as transaction:
            still_ours = set(transaction.execute(_DELIVERED, parameters).scalars())
            ours = [claim for claim in claims if claim.stream in still_ours]
            if failed := [_failed(effect, claim.stream, claim.failure) for claim in ours if claim.failure]:
                transaction.execute(_FAILED, failed)

    def _name(self) -> str:
        """Of the thread, which is at one round of claims at a time."""
        return f"{self._relay}:{get_ident()}"

    def _statement(self) -> AbstractContextManager[Connection]:
        """For one statement, which is a transaction of its own."""
        return connection(self._engine)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with connection(self._engine, "READ COMMITTED") as open_connection, open_connection.begin():
            yield open_connection


def _claim_in(row: Row[Any]) -> Claim:
    return Claim(row.stream, row.token, row.delivered_version, messages=())


def _failed(effect: str, stream: str, failure: Failure) -> dict[str, object]:
    return {
        "effect": effect,
        "stream": stream,
        "version": failure.version,
        "reason": failure.reason,
        "retry_in": failure.retry_in,
        "faults": int(failure.is_fault),
    }
