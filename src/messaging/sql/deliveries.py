"""The outbox as relays see it: claims on streams, and what was delivered.

Runs at READ COMMITTED: a claim must see what was committed while it waited for a lock.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

from sqlalchemy import Connection, Engine, text

from messaging.codec import Codec
from messaging.relay import Claim, Letter
from messaging.sql.connections import connection
from messaging.sql.event_log import recorded_from

# Visits each waiting stream once, by the primary key, however many letters wait in it; a stream whose first letter is
# dead or not due is passed over, and one claimed by another relay too.
_CLAIM = text("""
    WITH RECURSIVE heads AS (
        (SELECT stream, retry_at, dead_at FROM outbox
         WHERE effect = :effect AND stream > :after ORDER BY stream, version LIMIT 1)
        UNION ALL
        SELECT later.* FROM heads CROSS JOIN LATERAL (
            SELECT stream, retry_at, dead_at FROM outbox
            WHERE effect = :effect AND stream > heads.stream ORDER BY stream, version LIMIT 1) AS later
    ), due AS (
        SELECT heads.stream FROM heads LEFT JOIN deliveries
            ON deliveries.effect = :effect AND deliveries.stream = heads.stream
        WHERE heads.dead_at IS NULL AND (heads.retry_at IS NULL OR heads.retry_at <= clock_timestamp())
          AND (deliveries.claimed_until IS NULL OR deliveries.claimed_until < clock_timestamp())
        LIMIT :streams
    )
    INSERT INTO deliveries AS mine (effect, stream, claimed_by, claimed_until)
    SELECT :effect, stream, :relay, clock_timestamp() + make_interval(secs => :lease) FROM due ORDER BY stream
    ON CONFLICT (effect, stream) DO UPDATE
        SET token = mine.token + 1, claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until
        WHERE mine.claimed_until IS NULL OR mine.claimed_until < clock_timestamp()
    RETURNING stream, token
""")

_LETTERS = text("""
    SELECT letter.*, id, type, data, correlation_id, causation_id, source, time
    FROM unnest(CAST(:streams AS text[])) AS claimed(stream)
    CROSS JOIN LATERAL (
        SELECT stream, version, attempts, faults FROM outbox
        WHERE effect = :effect AND stream = claimed.stream ORDER BY version LIMIT :letters) AS letter
    LEFT JOIN event_log ON event_log.stream = letter.stream AND event_log.version = letter.version
    ORDER BY letter.stream, letter.version
""")

_DELIVERED = text("""
    WITH settled AS (
        SELECT * FROM unnest(CAST(:streams AS text[]), CAST(:tokens AS bigint[]), CAST(:counts AS bigint[]),
                             CAST(:versions AS bigint[])) AS settled(stream, token, count, version)
    ), still_ours AS (
        UPDATE deliveries SET claimed_until = NULL, claimed_by = NULL,
               delivered_count = delivered_count + settled.count,
               delivered_version = greatest(delivered_version, settled.version)
        FROM settled WHERE deliveries.effect = :effect AND deliveries.stream = settled.stream
                       AND deliveries.token = settled.token
        RETURNING deliveries.stream, settled.version
    ), gone AS (
        DELETE FROM outbox USING still_ours
        WHERE outbox.effect = :effect AND outbox.stream = still_ours.stream AND outbox.version <= still_ours.version
    )
    SELECT stream FROM still_ours
""")

_FAILED = text("""
    UPDATE outbox SET attempts = attempts + 1, faults = faults + :faults, reason = :reason, last_failed_at = now(),
           first_failed_at = coalesce(first_failed_at, now()),
           retry_at = now() + make_interval(secs => :retry_in),
           dead_at = CASE WHEN CAST(:retry_in AS float) IS NULL THEN now() END
    WHERE effect = :effect AND stream = :stream AND version = :version
""")


class SqlDeliveries:
    def __init__(self, engine: Engine, codec: Codec, lease: float = 4.0, streams: int = 100, letters: int = 50) -> None:
        self.lease = lease
        self._engine = engine
        self._codec = codec
        self._streams = streams
        self._letters = letters
        self._after: dict[str, str] = {}  # where the last claim of an effect ended: every stream gets its turn
        self._relay = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"

    def claim(self, effect: str) -> list[Claim]:
        after = self._after.get(effect, "")
        tokens = self._claim_streams(effect, after)
        if not tokens and after:
            tokens = self._claim_streams(effect, "")
        if not tokens:
            self._after[effect] = ""
            return []
        self._after[effect] = max(tokens) if len(tokens) == self._streams else ""
        with self._transaction() as transaction:  # after the claim was committed: nothing older can appear any more
            rows = transaction.execute(
                _LETTERS, {"effect": effect, "streams": list(tokens), "letters": self._letters}
            ).all()
        letters = defaultdict(list)
        for row in rows:
            letters[row.stream].append(
                Letter(row.version, row.attempts, row.faults, partial(recorded_from, row, self._codec))
            )
        return [Claim(stream, token, letters[stream]) for stream, token in tokens.items()]

    def _claim_streams(self, effect: str, after: str) -> dict[str, int]:
        asked = {
            "effect": effect,
            "after": after,
            "streams": self._streams,
            "relay": self._relay,
            "lease": self.lease,
        }
        with self._transaction() as transaction:
            return {row.stream: row.token for row in transaction.execute(_CLAIM, asked)}

    def settle(self, effect: str, claims: Sequence[Claim]) -> None:
        with self._transaction() as transaction:
            ours = transaction.execute(
                _DELIVERED,
                {
                    "effect": effect,
                    "streams": [claim.stream for claim in claims],
                    "tokens": [claim.token for claim in claims],
                    "counts": [len(claim.delivered) for claim in claims],
                    "versions": [max(claim.delivered, default=0) for claim in claims],
                },
            ).scalars()
            still_ours = set(ours)
            for claim in claims:
                if claim.failure and claim.stream in still_ours:
                    failure = claim.failure
                    transaction.execute(
                        _FAILED,
                        {
                            "effect": effect,
                            "stream": claim.stream,
                            "version": failure.version,
                            "reason": failure.reason,
                            "retry_in": failure.retry_in,
                            "faults": int(failure.is_fault),
                        },
                    )

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with connection(self._engine, "READ COMMITTED") as open_connection, open_connection.begin():
            yield open_connection
