"""How much waits in the outbox and lies dead, found out at a cost that does not grow with how much that is."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, text

from messaging.sql.connections import connection

COUNTED = 10_000
"""More than so many are not counted: the number is then the least that there can be."""

LOOKED_AT = 1_000
"""So many streams are looked at for what is dead and what is oldest."""

_WAITING = text("SELECT count(*) FROM (SELECT FROM outbox WHERE effect = :effect LIMIT :most) AS waiting")

# Visits each waiting stream once, as a claim does: what is oldest in a stream, or dead, is at its head.
_HEADS = text("""
    WITH RECURSIVE heads AS (
        (SELECT stream, version, dead_at FROM outbox WHERE effect = :effect ORDER BY stream, version LIMIT 1)
        UNION ALL
        SELECT later.* FROM heads CROSS JOIN LATERAL (
            SELECT stream, version, dead_at FROM outbox
            WHERE effect = :effect AND stream > heads.stream ORDER BY stream, version LIMIT 1) AS later
    ), first AS (SELECT * FROM heads LIMIT :streams)
    SELECT count(dead_at), extract(epoch FROM clock_timestamp() - min(time) FILTER (WHERE dead_at IS NULL))
    FROM first LEFT JOIN event_log ON event_log.stream = first.stream AND event_log.version = first.version
""")

_DEAD_MESSAGES = text("SELECT count(*) FROM (SELECT id FROM dead_letters ORDER BY id LIMIT :most) AS dead")


@dataclass(frozen=True, slots=True)
class Backlog:
    """Of one effect. `oldest`: for how many seconds the oldest that is not dead has been waiting, 0 for none."""

    waiting: int
    dead: int
    oldest: float


class SqlBacklog:
    """All of it raises Unavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of_effect(self, effect: str) -> Backlog:
        with connection(self._engine) as open_connection:
            waiting = open_connection.execute(_WAITING, {"effect": effect, "most": COUNTED}).scalar_one()
            dead, oldest = open_connection.execute(_HEADS, {"effect": effect, "streams": LOOKED_AT}).one()
        return Backlog(waiting, dead, max(0.0, float(oldest or 0)))

    def dead_messages(self) -> int:
        """Messages from outside that were given up, up to COUNTED."""
        with connection(self._engine) as open_connection:
            return int(open_connection.execute(_DEAD_MESSAGES, {"most": COUNTED}).scalar_one())
