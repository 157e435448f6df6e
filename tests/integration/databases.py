"""Databases with the current schema and nothing in them: one for all tests of a worker, and copies for a few."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import Engine, text

GRACE = 2.0
"""How many seconds connections have to close after the test that opened them; a killed process takes a moment."""

OURS = "between the tests"
"""The name of the one connection that stays."""

_CONNECTIONS = text("""
    SELECT pid, usename, state, left(query, 200) AS query FROM pg_stat_activity
    WHERE datname = :name AND backend_type = 'client backend' AND application_name <> :ours
""")
_TABLES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
        AND relname <> 'alembic_version' AND relname NOT LIKE 'lane%'
"""
# All that a test could change besides rows: what each object is, settings of the database, the schema's number, size.
_SHAPE = """
    SELECT sum(hash_record_extended(row(relname, relkind, relnatts, relchecks, relhastriggers, reloptions), 0))
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT sum(hash_record_extended(row(attrelid, attnum, attname, atttypid, attnotnull, attisdropped), 0))
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT sum(hash_record_extended(row(conrelid, conname, contype, convalidated), 0))
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT sum(hash_record_extended(row(setrole, setconfig), 0))
    FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = current_database()
    UNION ALL
    SELECT hash_record_extended(row(version_num), 0) FROM alembic_version
    UNION ALL
    SELECT div(sum(pg_relation_size(oid)), 16777216)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""
_EMPTY = sql.SQL("""
    WITH {} SELECT setval(oid::regclass, 1, false) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
""")


@dataclass
class Databases:
    admin: Engine
    template: str

    def url_of(self, name: str, driver: str | None = None) -> str:
        return self.admin.url.set(database=name, drivername=driver).render_as_string(hide_password=False)

    @contextmanager
    def copy(self, prefix: str) -> Iterator[str]:
        """The name of a new database that is dropped at the end, whoever may use it still."""
        name = f"{prefix}_{uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {self.template}")
        try:
            yield name
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def end_connections(self, name: str) -> list[str]:
        """What was left open for longer than the grace, ended by now, and with it its locks."""
        deadline = time.monotonic() + GRACE
        with self.admin.connect() as connection:
            while found := connection.execute(_CONNECTIONS, {"name": name, "ours": OURS}).all():
                if time.monotonic() > deadline:
                    for left in found:
                        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": left.pid})
                    return [f"{left.usename}, {left.state}: {left.query}" for left in found]
                time.sleep(0.005)
        return []

    def _run(self, statement: str) -> None:
        with self.admin.connect() as connection:
            connection.execute(text(statement))


class SharedDatabase:
    """One for many tests, emptied for each. When one has changed more than rows, the next gets a new one."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._life = ExitStack()
        self._name = ""

    def emptied(self) -> str:
        """Its name."""
        if not self._name or not self._is_emptied():
            self._make()
        return self._name

    def close(self) -> None:
        self._life.close()

    def _make(self) -> None:
        self._life.close()
        self._name = self._life.enter_context(self._databases.copy("shared"))
        self._connection = self._connect()
        self._shape = self._connection.execute(_SHAPE).fetchall()
        names = [name for (name,) in self._connection.execute(_TABLES)]
        deletions = (
            sql.SQL("{} AS (DELETE FROM {})").format(sql.Identifier(f"from_{name}"), sql.Identifier(name))
            for name in names
        )
        self._empty = _EMPTY.format(sql.SQL(", ").join(deletions))

    def _is_emptied(self) -> bool:
        try:
            is_as_it_was = self._connection.execute(_SHAPE).fetchall() == self._shape
        except psycopg.OperationalError:  # a test cuts connections
            self._connection = self._connect()
            return self._is_emptied()
        if is_as_it_was:
            self._connection.execute(self._empty)
        return is_as_it_was

    def _connect(self) -> psycopg.Connection:
        url = self._databases.url_of(self._name, "postgresql")
        options = "-c lock_timeout=10s"
        return self._life.enter_context(
            closing(psycopg.connect(url, autocommit=True, application_name=OURS, options=options))
        )
