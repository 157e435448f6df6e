"""What our sessions set at the server: how long they may be at something, how it plans, and how moments are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import psycopg
from sqlalchemy import Engine, event

# In one round trip. What was set for us on purpose wins: in the URL, for the role, for the database. Of a setting that
# this server does not know yet (transaction_timeout before 17) there is no row. Those in FORCED are set in any case.
_SET = """
    SELECT set_config(name, value, false)
    FROM unnest(%s::text[], %s::text[]) AS wanted(name, value) JOIN pg_settings USING (name)
    WHERE name = ANY(%s) OR source NOT IN ('client', 'user', 'database', 'database user')
"""

FORCED = {
    "DateStyle": "ISO",  # the driver reads no other dates
    "TimeZone": "UTC",  # moments are read in it, and shown as they are read
    "row_security": "off",  # rows that we may not see are an error, and not rows that are not there
}

BY_KEY = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
"""All that we ask under a limit reaches few rows by a key. Statistics can only mislead: those of a table that was empty
when it was last looked at make a prepared statement read all of it, however large it has grown since."""


@dataclass(frozen=True, slots=True)
class Limits:
    """By the server's own names, in milliseconds; 0 is none."""

    statement_timeout: int = 0
    lock_timeout: int = 0
    idle_in_transaction_session_timeout: int = 0
    transaction_timeout: int = 0

    def on(self, engine: Engine) -> Engine:
        """The same engine, with these limits on each of its connections."""
        limits = {name: str(value) for name, value in asdict(self).items() if value}
        wanted = FORCED | limits | (BY_KEY if limits else {})

        @event.listens_for(engine, "connect")
        def set_them(driver: psycopg.Connection[tuple[str]], _: object) -> None:
            try:
                driver.execute(_SET, (list(wanted), list(wanted.values()), list(FORCED)))
                driver.commit()
            except psycopg.Error:
                driver.close()  # the pool would only forget it
                raise

        return engine


FOR_CALLERS = Limits(
    statement_timeout=1_200, lock_timeout=1_000, idle_in_transaction_session_timeout=5_000, transaction_timeout=2_000
)
"""Somebody waits for the answer, and is better served by an early 503."""

FOR_WORK = Limits(statement_timeout=120_000, lock_timeout=10_000, idle_in_transaction_session_timeout=30_000)
"""Nobody waits; a reallocation of ten thousand lines must get through, and a frozen process must let go one day."""

UNLIMITED = Limits()
"""A check or an export reads all there is."""
