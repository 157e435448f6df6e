"""How much waits to be delivered, by effect: for people and gauges, who ask often. So it reads so much and no more.

A stream's first message is its oldest, and the only one that can be dead. Who visits the first messages has seen both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from messaging.sql.connections import connection

MOST_MESSAGES = 200_000
"""Of one effect, that are counted."""

MOST_STREAMS = 20_000
"""Of one effect, whose first message is looked at."""

COUNTED = 10_000
"""Of all that is counted for gauges and pages, who ask day and night."""

STREAMS_LOOKED_AT = 1_000
"""For them."""

_EFFECTS = text("""
    WITH RECURSIVE effects AS (
        (SELECT effect FROM outbox ORDER BY effect LIMIT 1)
        UNION ALL
        SELECT later.effect FROM effects CROSS JOIN LATERAL (
            SELECT effect FROM outbox WHERE effect > effects.effect ORDER BY effect LIMIT 1) AS later
    )
    SELECT effect FROM effects
""")

_WAITING = text("""
    SELECT count(*) FROM (SELECT FROM outbox WHERE effect = :effect ORDER BY stream, version LIMIT :most) AS few
""")

# Visits each waiting stream once, by the primary key, however many messages wait in it.
_HEADS = text("""
    WITH RECURSIVE heads AS (
        (SELECT stream, version, attempts, dead_at FROM outbox
         WHERE effect = :effect ORDER BY stream, version LIMIT 1)
        UNION ALL
        SELECT later.* FROM heads CROSS JOIN LATERAL (
            SELECT stream, version, attempts, dead_at FROM outbox
            WHERE effect = :effect AND stream > heads.stream ORDER BY stream, version LIMIT 1) AS later
    ), few AS (SELECT * FROM heads LIMIT :most)
    SELECT count(*) AS streams,
           count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead,
           count(*) FILTER (WHERE dead_at IS NULL AND attempts > 0) AS failing,
           greatest(extract(epoch FROM clock_timestamp() - min(time) FILTER (WHERE dead_at IS NULL AND isfinite(time))),
                    0) AS oldest
    FROM few LEFT JOIN event_log USING (stream, version)
""")

_MESSAGES = text("SELECT count(*) FROM (SELECT FROM dead_letters ORDER BY id LIMIT :most) AS few")


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits of one effect: nothing, by default.

    `waiting`: events, with those that are dead and those behind them; `streams`: how many they are of; `failing`:
    streams whose first message was tried in vain and will be again; `oldest`: seconds since the oldest event happened,
    None when none is seen that is not dead. Unless it `is_complete`, there is more, and each figure is a lower bound.
    """

    effect: str
    waiting: int = 0
    streams: int = 0
    failing: int = 0
    dead: int = 0
    oldest: float | None = None
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the database knows to wait, and messages from outside that were given up."""

    backlogs: list[Backlog]
    dead_messages: int


def waiting(
    engine: Engine, effects: Iterable[str] = (), most_messages: int = COUNTED, most_streams: int = STREAMS_LOOKED_AT
) -> Waiting:
    """For gauges and pages: so few are looked at. By name, these `effects` also if nothing waits
    of them. Raises Unavailable."""
    with connection(engine) as open_connection:
        found = {effect: Backlog(effect) for effect in effects}
        found |= {backlog.effect: backlog for backlog in backlogs(open_connection, most_messages, most_streams)}
        return Waiting([found[effect] for effect in sorted(found)], dead_messages(open_connection, most_messages))


def backlogs(
    open_connection: Connection, most_messages: int = MOST_MESSAGES, most_streams: int = MOST_STREAMS
) -> list[Backlog]:
    """Of each effect that anything waits of, by name."""
    return [
        _backlog(open_connection, effect, most_messages, most_streams)
        for effect in open_connection.execute(_EFFECTS).scalars().all()
    ]


def dead_messages(open_connection: Connection, most: int = MOST_MESSAGES) -> int:
    """How many messages from outside were given up; `most` may be more."""
    return int(open_connection.execute(_MESSAGES, {"most": most}).scalar_one())


def _backlog(open_connection: Connection, effect: str, most_messages: int, most_streams: int) -> Backlog:
    messages = int(open_connection.execute(_WAITING, {"effect": effect, "most": most_messages}).scalar_one())
    heads = open_connection.execute(_HEADS, {"effect": effect, "most": most_streams}).one()
    return Backlog(
        effect=effect,
        waiting=messages,
        streams=heads.streams,
        failing=heads.failing,
        dead=heads.dead,
        oldest=None if heads.oldest is None else float(heads.oldest),
        is_complete=messages < most_messages and heads.streams < most_streams,
    )
