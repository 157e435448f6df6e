"""What an effect was carried out for, read from the log, to do it again where the outside has forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial

from sqlalchemy import Engine, text

from messaging.codec import Codec
from messaging.outbox.claims import OutboxMessage
from messaging.sql.clocks import PRESENT
from messaging.sql.connections import connection
from messaging.sql.event_log import RECORDED, recorded_from

_LAST_VERSIONS = text("""
    SELECT stream, delivered_version FROM deliveries
    WHERE effect = :effect AND stream > :beyond AND delivered_version > 0 ORDER BY stream LIMIT :most
""")

# The time of an event is by the clock of whoever recorded it. So all that was recorded after the first that is young is
# young: a clock that was behind for a moment leaves no hole. The last ones that are not lost may be the first. One from
# the future is young, unless old ones were recorded after it: then it is damaged. OFFSET 0 keeps the planner from
# turning round what is looked up by a key.
_MESSAGES = text(f"""
    WITH lost AS NOT MATERIALIZED (
        SELECT event_log.*, after
        FROM unnest(CAST(:streams AS text[]), CAST(:afters AS bigint[]), CAST(:up_to AS bigint[]))
            AS span(stream, after, up_to)
        CROSS JOIN LATERAL (
            SELECT * FROM event_log WHERE stream = span.stream AND version BETWEEN span.after AND span.up_to OFFSET 0
        ) AS event_log
    ), present AS MATERIALIZED (
        SELECT now, now - make_interval(secs => :seconds) AS oldest FROM (SELECT {PRESENT} AS now) AS clocks
    ), young AS MATERIALIZED (
        SELECT min(position) AS first FROM lost, present
        WHERE time > oldest AND (
            time < now + interval '1 day'
            OR (position > (SELECT max(position) FROM lost, present WHERE time <= oldest)) IS NOT FALSE
        )
    )
    SELECT stream, version, {RECORDED}
    FROM lost
    WHERE version > after AND position >= (SELECT first FROM young) AND effects ? :effect
      AND NOT EXISTS (SELECT FROM dropped_effects AS dropped WHERE dropped.effect = :effect
                      AND dropped.stream = lost.stream AND dropped.version = lost.version OFFSET 0)
    ORDER BY stream, version
""")  # noqa: S608 - the piece is our own


_CLAIMED = """
    SELECT stream, token FROM deliveries
    WHERE effect = :effect AND claimed_until IS NOT NULL
"""
_CLAIMED_OF_ALL, _CLAIMED_OF_THESE = text(_CLAIMED), text(f"{_CLAIMED} AND stream = ANY(:streams)")


class SqlDelivered:
    """All of it raises Unavailable."""

    def __init__(self, engine: Engine, codec: Codec, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._codec = codec
        self._clock = clock

    def last_versions(self, effect: str, beyond: str, most: int) -> Mapping[str, int]:
        parameters = {"effect": effect, "beyond": beyond, "most": most}
        with connection(self._engine) as open_connection:
            return {row.stream: row.delivered_version for row in open_connection.execute(_LAST_VERSIONS, parameters)}

    def claimed(self, effect: str, streams: Sequence[str] | None = None) -> Mapping[str, int]:
        with connection(self._engine) as open_connection:
            if streams is None:
                found = open_connection.execute(_CLAIMED_OF_ALL, {"effect": effect})
            else:
                found = open_connection.execute(_CLAIMED_OF_THESE, {"effect": effect, "streams": streams})
            return {row.stream: row.token for row in found}

    def messages(
        self, effect: str, spans: Mapping[str, tuple[int, int]], younger_than: timedelta
    ) -> Iterator[tuple[str, OutboxMessage]]:
        parameters = {
            "effect": effect,
            "streams": list(spans),
            "afters": [after for after, _ in spans.values()],
            "up_to": [up_to for _, up_to in spans.values()],
            "seconds": younger_than.total_seconds(),
            "clock": self._clock(),
        }
        with connection(self._engine, "READ COMMITTED") as open_connection:
            open_connection.execution_options(stream_results=True, yield_per=500)
            with open_connection.execute(_MESSAGES, parameters) as rows:  # closed by whoever stops half-way, too
                for row in rows:
                    yield row.stream, OutboxMessage(row.version, 0, 0, partial(recorded_from, row, self._codec))
