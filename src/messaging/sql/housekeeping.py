"""Forgets what nobody can ask for any more, in small batches, so that the tables that should not grow do not.

Outbox rows go when their effect is done, and the event log stays for good; what remains are the inbox's marks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from threading import Event

from sqlalchemy import Engine, text

from messaging.loops import StatusLog, repeat
from messaging.sql.clocks import PRESENT
from messaging.sql.connections import connection

log = logging.getLogger(__name__)

# Any number of processes may do this at once: they take different rows. As a subquery of the DELETE the SELECT could be
# executed once for each row, whatever its LIMIT; as a CTE it is executed once.
_FORGET = text(f"""
    WITH old AS MATERIALIZED (
        SELECT message_id FROM inbox WHERE received_at < {PRESENT} - make_interval(secs => :age)
        ORDER BY received_at LIMIT :batch FOR UPDATE SKIP LOCKED)
    DELETE FROM inbox USING old WHERE inbox.message_id = old.message_id
""")  # noqa: S608 - the piece is our own


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """`keep` is for how long a message id is remembered: the answer to the same request is replayed that long."""

    engine: Engine
    keep: timedelta = timedelta(hours=24)
    batch: int = 1_000
    every: float = 60.0
    clock: Callable[[], float] = time.time

    def run(self, stop: Event) -> None:
        """Tidy up now and then until stopped."""

        def step() -> float:
            while self.forget_old_messages() == self.batch and not stop.is_set():
                pass
            return self.every

        repeat(step, stop, StatusLog(log), "housekeeping", self.every)

    def forget_old_messages(self) -> int:
        """Forget one batch; returns how many. Raises MessagingError."""
        with connection(self.engine, "READ COMMITTED") as open_connection, open_connection.begin():
            parameters = {"age": self.keep.total_seconds(), "clock": self.clock(), "batch": self.batch}
            return open_connection.execute(_FORGET, parameters).rowcount
