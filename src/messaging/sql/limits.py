"""How long the server lets a session of ours be at something before it ends it by itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import psycopg
from sqlalchemy import Engine, event

# In one round trip. What was set for us on purpose wins: in the URL, for the role, for the database. Of a limit that
# this server does not know yet (transaction_timeout before 17) there is no row.
_LIMIT = """
    SELECT set_config(name, milliseconds::text, false)
    FROM unnest(%s::text[], %s::int[]) AS wanted(name, milliseconds) JOIN pg_settings USING (name)
    WHERE source NOT IN ('client', 'user', 'database', 'database user')
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """By the server's own names, in milliseconds; 0 is none."""

    statement_timeout: int = 0
    lock_timeout: int = 0
    idle_in_transaction_session_timeout: int = 0
    transaction_timeout: int = 0

    def on(self, engine: Engine) -> Engine:
        """The same engine, with these limits on each of its connections."""
        wanted = {name: value for name, value in asdict(self).items() if value}
        if wanted:

            @event.listens_for(engine, "connect")
            def limit(driver: psycopg.Connection[tuple[str]], _: object) -> None:
                driver.autocommit = True
                driver.execute(_LIMIT, (list(wanted), list(wanted.values())))
                driver.autocommit = False

        return engine


FOR_CALLERS = Limits(
    statement_timeout=1_200, lock_timeout=1_000, idle_in_transaction_session_timeout=5_000, transaction_timeout=2_000
)
"""Somebody waits for the answer, and is better told to come again."""

FOR_WORK = Limits(statement_timeout=120_000, lock_timeout=10_000, idle_in_transaction_session_timeout=30_000)
"""Nobody waits; a reallocation of ten thousand lines must get through, and a frozen process must let go one day."""

UNLIMITED = Limits()
"""A check or an export reads all there is."""
