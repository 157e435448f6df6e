"""Queues in which writers of one stream wait for each other before their transaction sees anything.

At REPEATABLE READ a lock on a row comes too late: what was read before the wait is old after it, and the transaction
has lost. LOCK TABLE is the one lock that PostgreSQL grants before a transaction's snapshot is taken (its manual says so
on the page of LOCK). So there are some tables without a column, which nobody reads or writes. They are locked in one
order, and the queue for each is first in, first out. The lock goes with the transaction, through a pooler too.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from messaging.sql.tables import stripes


def lock_stripes(streams: Iterable[str]) -> str:
    """The statement that waits for the turn of these streams. Two of them may share a stripe."""
    numbers = sorted({crc32(stream.encode()) % len(stripes) for stream in streams})
    return f"LOCK TABLE {', '.join(stripes[number].name for number in numbers)} IN EXCLUSIVE MODE"
