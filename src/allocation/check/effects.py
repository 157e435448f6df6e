"""Every effect that an event must have: delivered, or waiting in the outbox (dead, maybe), and never both.

An effect of a stream is delivered up to a version, so each event that names it is on one side of that, or waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, text

from allocation.check.difference import Difference, the_event
from allocation.check.streams import stream

# What is not a list names nothing: the effect it should have named is then one too many elsewhere.
_NAMED = """
    SELECT effect, stream, version FROM event_log CROSS JOIN LATERAL jsonb_array_elements_text(
        CASE jsonb_typeof(effects) WHEN 'array' THEN effects ELSE '[]' END) AS effect
"""

_EFFECTS = text(f"""
    SELECT effect, stream, version, named.version IS NOT NULL AS is_named, outbox.version IS NOT NULL AS is_waiting,
           coalesce(delivered_version, 0) AS delivered_version
    FROM ({_NAMED}) AS named FULL JOIN outbox USING (effect, stream, version)
    LEFT JOIN deliveries USING (effect, stream)
    WHERE named.version IS NULL OR (version <= coalesce(delivered_version, 0)) = (outbox.version IS NOT NULL)
    ORDER BY effect, stream, version
""")  # noqa: S608 - both parts are our own

_COUNTS = text(f"""
    SELECT deliveries.effect, deliveries.stream, delivered_version, delivered_count, count(named.version) AS named
    FROM deliveries LEFT JOIN ({_NAMED}) AS named
        ON named.effect = deliveries.effect AND named.stream = deliveries.stream AND named.version <= delivered_version
    GROUP BY deliveries.effect, deliveries.stream, delivered_version, delivered_count
    HAVING count(named.version) <> delivered_count
    ORDER BY deliveries.effect, deliveries.stream
""")  # noqa: S608 - both parts are our own

_AHEAD = text("""
    SELECT effect, stream, delivered_version, coalesce(last_version, 0) AS last_version
    FROM deliveries LEFT JOIN (
        SELECT stream, max(version) AS last_version FROM event_log GROUP BY stream
    ) AS histories USING (stream)
    WHERE delivered_version > coalesce(last_version, 0)
    ORDER BY effect, stream
""")

_TOKENS = text("""
    SELECT effect, stream, token FROM deliveries
    WHERE token NOT BETWEEN 0 AND CAST(extract(epoch FROM now() + interval '10 years') * 1000000 AS bigint)
    ORDER BY effect, stream
""")


def differences(connection: Connection) -> Iterator[Difference]:
    for row in stream(connection, _EFFECTS):
        yield _effect_difference(row)
    for row in stream(connection, _COUNTS):
        what = f"effect {row.effect!r} of {row.stream!r}, delivered count up to version {row.delivered_version}"
        yield Difference(what, row.named, row.delivered_count)
    for row in stream(connection, _AHEAD):
        what = f"effect {row.effect!r} of {row.stream!r}, delivered version"
        yield Difference(what, f"at most {row.last_version}, the last event's", row.delivered_version)
    for row in stream(connection, _TOKENS):
        yield Difference(f"effect {row.effect!r} of {row.stream!r}, token", "a moment in microseconds", row.token)


def _effect_difference(row: Row[Any]) -> Difference:
    what = f"effect {row.effect!r} of {the_event(row.version, row.stream)}"
    if not row.is_named:
        return Difference(what, "none, since no such event names it", "waiting")
    if row.is_waiting:
        return Difference(what, f"nothing waiting up to the delivered version {row.delivered_version}", "waiting")
    return Difference(what, f"waiting, since only version {row.delivered_version} is delivered", None)
