"""Which revision of the database's schema this program needs."""

from __future__ import annotations

import re

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError

from allocation.database import tables
from messaging.errors import Unavailable
from messaging.retry import Retry
from messaging.sql.connections import connection

REVISION = "0020"


def require_current_schema(engine: Engine) -> None:
    """Raises Unavailable when the database can't be reached or used, or its schema is older than the one we need.

    Revisions are numbered. A later one is for the next release, beside which this one still works for a while.
    """

    def ask() -> str | None:
        with connection(engine) as open_connection:
            require_utf8(open_connection)
            return open_connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    found = Retry()(ask)  # a connection that was cut while it was at rest says nothing about the database
    if not (found and is_numbered(found) and found >= REVISION):
        raise Unavailable(f"the database's schema is at revision {found}, not {REVISION}; migrate it first")


def is_numbered(revision: str) -> bool:
    return re.fullmatch("[0-9]{4}", revision) is not None


def require_writes(engine: Engine, time_zone: str = "UTC") -> None:
    """Raises Unavailable when the database can't be reached, or only reads: a standby, or one that is set to; when it
    does not let us write what every command writes; or when it does not have this time zone, since its data of them is
    older than ours."""

    def ask() -> tuple[str, str | None]:
        with connection(engine) as open_connection:
            try:
                found = open_connection.execute(_MAY_WRITE, {"zone": time_zone, **_NEEDED}).one()
            except DataError as error:
                raise Unavailable(f"the database knows no time zone {time_zone!r}; set another TIME_ZONE") from error
        return found.reads_only, found.missing

    reads_only, missing = Retry()(ask)
    if reads_only != "off":
        raise Unavailable("the database only reads: it is a standby, or default_transaction_read_only is on")
    if missing:
        raise Unavailable(f"the database does not let us {missing}; grant it first")


_OF_THE_DOMAIN = sorted(tables.metadata.tables.keys() - {tables.api_keys.name, tables.console_sessions.name})
_NEEDED = {
    "read": [*_OF_THE_DOMAIN, "event_log", "inbox"],
    "written": [*_OF_THE_DOMAIN, "event_log", "inbox", "outbox"],
    "changed": ["products", "batches", "orders"],
}
_MAY_WRITE = text("""
    SELECT current_setting('transaction_read_only') AS reads_only, (
        SELECT min(needed.right || ' ' || name)
        FROM (VALUES
            ('SELECT', CAST(:read AS text[])),
            ('INSERT', CAST(:written AS text[])),
            ('UPDATE', CAST(:changed AS text[]))
        ) AS needed("right", names) CROSS JOIN unnest(names) AS name
        WHERE NOT coalesce(has_any_column_privilege(to_regclass(name), needed.right), false)
    ) AS missing, now() AT TIME ZONE :zone
""")


def require_utf8(open_connection: Connection) -> None:
    """Raises Unavailable for a database in which not every name can be stored."""
    encoding = open_connection.execute(text("SELECT current_setting('server_encoding')")).scalar()
    if encoding != "UTF8":
        raise Unavailable(f"the database's encoding is {encoding}, not UTF8; create one with ENCODING 'UTF8'")
