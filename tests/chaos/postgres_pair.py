"""A PostgreSQL primary and its synchronous standby: what is committed is on both, so losing one loses nothing."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import psycopg
from tests.e2e.waiting import eventually

from embedded.binaries import postgres_programs
from embedded.identity import identity_for
from embedded.postgres import Postgres
from embedded.process import Launcher


class _Node(Postgres):
    """Ready as a standby too."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder.resolve()

    def _is_ready(self) -> bool:
        lines = self._pid_file_lines()
        return super()._is_ready() or (len(lines) >= 8 and lines[7].strip() == "standby")


class PostgresPair:
    """`kill_primary`, `promote`, then `add_standby` to have a pair again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._primary = _Node(folder / "postgres-1")
        self._primary.start()
        self._standby: _Node | None = None
        self.version = self._primary.version
        self.add_standby()

    @property
    def url(self) -> str:
        """Leads to whichever takes writes; the address of a later pair is another one."""
        return self._url

    def add_standby(self) -> None:
        if self._standby:
            return
        standby = _Node(self._folder / f"postgres-{'2' if self._primary.folder.name.endswith('1') else '1'}")
        shutil.rmtree(standby.folder / "data", ignore_errors=True)
        standby.folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(self._primary.folder / "password", standby.folder / "password")
        program = postgres_programs() / "pg_basebackup"
        identity = identity_for(standby.folder, postgres_programs() / "postgres", refuses_root=True)
        launcher = Launcher(standby.folder, identity, signal.SIGTERM)
        launcher.run(
            program, "-D", str(standby.folder / "data"), "-d", self._primary.url, "-R", "-c", "fast", "-X", "stream"
        )
        standby.start()
        self._standby = standby
        self._ask_primary("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        eventually(self._is_in_sync, "the standby is synchronous")
        self._url = _both(self._primary.url, standby.url)

    def kill_primary(self) -> None:
        self._primary.kill()

    def promote(self) -> None:
        assert self._standby, "one at a time"
        self._primary, self._standby = self._standby, None
        self._ask_primary("SELECT pg_promote()")

    def stop(self) -> None:
        for node in (self._primary, self._standby):
            if node:
                node.stop()

    def _is_in_sync(self) -> bool:
        with psycopg.connect(self._primary.url, autocommit=True) as connection:
            return connection.execute("SELECT sync_state FROM pg_stat_replication").fetchone() == ("sync",)

    def _ask_primary(self, *statements: str) -> None:
        with psycopg.connect(self._primary.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


def _both(one: str, other: str) -> str:
    start, _, rest = one.rpartition("@")
    host, _, database = rest.partition("/")
    second = other.rpartition("@")[2].partition("/")[0]
    return f"{start}@{host},{second}/{database}?target_session_attrs=read-write"
