"""Database errors in the machinery's words, by SQLSTATE, in one place.

Sources: PostgreSQL's error codes (appendix A) and its chapter 13.5 on retrying serialization failures.
"""

from __future__ import annotations

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from messaging.errors import (
    AlreadyThere,
    ConcurrencyConflict,
    Disconnected,
    MessagingError,
    NotAllowed,
    OutcomeUnknown,
    Unavailable,
)

_CONFLICTS = {
    "40001": ConcurrencyConflict,  # serialization_failure
    "40P01": ConcurrencyConflict,  # deadlock_detected
    "55P03": ConcurrencyConflict,  # lock_not_available
}
_UNIQUE_VIOLATION = "23505"
_MADE_BY_ANOTHER = ("_pkey", "dead_letters_message")
"""Ends of the names of unique keys, on partitions too, whose violation means that another writer was faster. Any other
is a rule that was broken."""

_NOT_ALLOWED = "42501"  # insufficient_privilege: a migration has made a table
_OTHER_SCHEMA = {
    "55000",  # object_not_in_prerequisite_state: a view where a table should be
    "0A000",  # feature_not_supported: likewise
    "23502",  # not_null_violation: of a column that we know nothing of, since ours are always given
}
"""Or a syntax error or access rule violation (class 42): no such table, column, key or function. What we send is always
the same text, so it can only be the schema: of another release, or restored in part."""
_MISPLACED = "25006"  # read_only_sql_transaction: connected to a standby
_ENDED = {
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P05",  # idle_session_timeout
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
}
_FORGOTTEN = "26000"  # invalid_sql_statement_name: a pooler has given us another session
_CHANGES_ITS_PLAN = "RevalidateCachedQuery"
"""The server's function that refuses a prepared statement since a column has another type now."""

_OUTAGES = {
    _MISPLACED,
    "57014",  # query_canceled: a statement time-out
    "57P03",  # cannot_connect_now
}
_OUTAGE_CLASSES = {
    "53",  # insufficient resources: disk full, out of memory, too many connections, a configured limit
    "58",  # system error: I/O, a file that is not there
}
_OVER = {"FATAL", "PANIC"}
"""Severities after which there is no session. An ERROR, even one in answer to COMMIT, has rolled back; but a server
that can't write its log panics, with the same SQLSTATE, and may find the commit there when it is up again."""

Faults = (DBAPIError, psycopg.Error, PoolTimeout)


def is_misplaced(error: Exception) -> bool:
    """Whether this server only reads: another one has become the primary."""
    original = _of_the_driver(error)
    return original is not None and original.sqlstate == _MISPLACED


def is_not_prepared(error: Exception) -> bool:
    """Whether what was prepared on this connection can't be used any more. Anew it can be."""
    original = _of_the_driver(error)
    return is_outdated(error) or (original is not None and original.sqlstate == _FORGOTTEN)


def is_outdated(error: Exception) -> bool:
    """Whether every connection that is as old has the same stale plan, since a column has another type now."""
    original = _of_the_driver(error)
    return original is not None and original.diag.source_function == _CHANGES_ITS_PLAN


def _of_the_driver(error: Exception) -> psycopg.Error | None:
    """What SQLAlchemy has wrapped, or a round trip has not."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return original if isinstance(original, psycopg.Error) else None


def translated(error: Exception, *, committing: bool = False) -> MessagingError | None:
    """What the error means; None if it is a fault in the program, which nobody should hide.

    `committing`: COMMIT may have been sent, so a lost connection leaves the outcome open.
    """
    if isinstance(error, PoolTimeout):
        return Unavailable(f"no free database connection: {error}")
    original = _of_the_driver(error)
    if original is None:
        return None
    text = " ".join(str(original).split())
    state = original.sqlstate or ""
    is_stale = is_not_prepared(original)
    if not is_stale and (missing := _missing(state)):
        return (NotAllowed if state == _NOT_ALLOWED else Unavailable)(f"{missing} ({text})")
    is_made = state == _UNIQUE_VIOLATION and (original.diag.constraint_name or "").endswith(_MADE_BY_ANOTHER)
    if conflict := AlreadyThere if is_made else _CONFLICTS.get(state):
        return conflict(text)
    if _is_over(original):
        return OutcomeUnknown(text) if committing else Disconnected(text)
    return Disconnected(text) if is_stale or state in _OUTAGES or state[:2] in _OUTAGE_CLASSES else None


def _missing(state: str) -> str:
    if state == _NOT_ALLOWED:
        return "the database does not let us; grant it first"
    if state.startswith("42") or state in _OTHER_SCHEMA:
        return "the database's schema is not there yet, or another; migrate it first"
    return ""


def _is_over(error: psycopg.Error) -> bool:
    """Whether the session has ended, perhaps without a word."""
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate in _ENDED or error.sqlstate.startswith("08") or error.diag.severity_nonlocalized in _OVER
