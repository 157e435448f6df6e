"""Who is signed in to the console. Kept by the hash of a token, so that whoever reads the database can't be them."""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import Connection, Executable, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from allocation.database.tables import console_sessions
from messaging.sql.connections import Database

MOST_SESSIONS = 10
"""Of one key, at the same time."""

_HALF_A_DAY = text("now() + interval '12 hours'")


class SqlConsoleSessions:
    """All of it raises Unavailable."""

    def __init__(self, database: Database) -> None:
        self._run = database.run

    def open(self, token: str, principal: str) -> None:
        """For half a day, or until `principal` has opened ten more. Those that have ended are forgotten, and those that
        were opened by a clock that was ahead: they would be the last of the ten for long."""
        ends_at = console_sessions.c.ends_at
        over = delete(console_sessions).where(or_(ends_at <= func.now(), ends_at > _HALF_A_DAY))
        row = insert(console_sessions).values(token=_hash(token), principal=principal, ends_at=_HALF_A_DAY)
        of_them = select(console_sessions.c.token).where(console_sessions.c.principal == principal)
        too_old = of_them.order_by(ends_at.desc()).offset(MOST_SESSIONS)
        too_many = delete(console_sessions).where(console_sessions.c.token.in_(too_old))
        self._change(over, row.on_conflict_do_nothing(), too_many)

    def principal(self, token: str) -> str | None:
        query = (
            select(console_sessions.c.principal)
            .where(console_sessions.c.token == _hash(token))
            .where(console_sessions.c.ends_at > func.now())
        )
        return self._run(lambda sessions: sessions.execute(query).scalar_one_or_none())

    def close(self, token: str) -> None:
        self._change(delete(console_sessions).where(console_sessions.c.token == _hash(token)))

    def _change(self, *statements: Executable) -> None:
        """Each may be done twice."""

        def change(sessions: Connection) -> None:
            for statement in statements:
                sessions.execute(statement)

        self._run(change)


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
