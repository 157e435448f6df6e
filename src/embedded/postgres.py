"""One PostgreSQL, as real as any: TCP, a password, a database of its own, and data that survives."""

import shutil
import signal
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from embedded.binaries import postgres_programs
from embedded.endpoint import HOST
from embedded.leftovers import end_leftovers
from embedded.process import Launcher
from embedded.server import Server

LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"
NAME = "allocation"
"""Of the database, and of the role that owns it."""

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path must be short, and a home's may be long
    "max_connections": "200",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres(Server):
    refuses_root = True
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # SIGTERM would wait for clients to leave
    version_pattern = r"(PostgreSQL)\) (\d[\w.]*)"

    def __init__(self, folder: Path, *, log: Path | None = None, durable: bool = True) -> None:
        super().__init__(postgres_programs() / "postgres", folder, log=log, durable=durable)
        self._data = self._folder / "data"
        self._pid_file = self._data / "postmaster.pid"

    @property
    def url(self) -> str:
        return f"postgresql://{NAME}:{self._endpoint.password}@{HOST}:{self._endpoint.port}/{NAME}"

    def _end_leftovers(self) -> None:
        postmaster = self._recorded_pid()
        programs = {"postgres", "initdb"}
        end_leftovers(self._folder, programs, stop_signal=signal.SIGINT, leader=postmaster, title=self._title)
        if not postmaster or Path(f"/proc/{postmaster}").exists():
            # PostgreSQL would make way for a zombie or, after a power cut, for somebody else with the same pid, and
            # for a file that is empty since the machine stopped while it was written.
            self._pid_file.unlink(missing_ok=True)

    @property
    def _title(self) -> str:
        """Shown by each process of this server, and by no other's; not the password."""
        return "allocation-" + sha256(self._endpoint.password.encode()).hexdigest()[:16]

    def _create_data(self, launcher: Launcher) -> None:
        """In another place first, so that data in its place is whole."""
        if self._data.exists():
            return
        fresh = self._folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        initdb = ["-D", str(fresh), "-U", NAME, "-A", "scram-sha-256", f"--pwfile={self._endpoint.password_file}"]
        initdb += ["-E", "UTF8", f"--locale={LOCALE}", *([] if self._durable else ["--no-sync"])]
        launcher.run(self._program.with_name("initdb"), *initdb)
        without_clients = ["--single", "-D", str(fresh), *self._settings(exit_on_error="on"), "postgres"]
        launcher.run(self._program, *without_clients, stdin=f"CREATE DATABASE {NAME}\n")
        fresh.rename(self._data)

    def _start_on(self, port: int, launcher: Launcher) -> None:
        settings = self._settings(**SETTINGS, port=str(port), cluster_name=self._title)
        self._process.start(launcher, self._program, "-D", str(self._data), *settings, ready=self._is_ready)

    def _settings(self, **settings: str) -> Iterator[str]:
        for name, value in (settings | ({} if self._durable else NOT_DURABLE)).items():
            yield from ("-c", f"{name}={value}")

    def _is_ready(self) -> bool:
        """As the postmaster itself says, in the file that it keeps for `pg_ctl`."""
        lines = self._pid_file_lines()
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _recorded_pid(self) -> int:
        lines = self._pid_file_lines()
        return int(lines[0]) if lines and lines[0].isdigit() else 0

    def _pid_file_lines(self) -> list[str]:
        try:
            return self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return []
