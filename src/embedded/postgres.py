"""One PostgreSQL, as real as any: TCP, a password, a database of its own, and data that survives."""

import shutil
import signal
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from embedded.binaries import postgres_programs
from embedded.endpoint import HOST, Endpoint
from embedded.identity import identity_for
from embedded.leftovers import end_leftovers
from embedded.process import Launcher, Process, version_of

LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"
NAME = "allocation"
"""Of the database, and of the role that owns it."""

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path must be short, and a home's may be long
    "max_connections": "200",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """Everything it keeps is in `folder`, which belongs to the one object that starts it.

    Start it from a thread that stays: on Linux the server ends with the thread that started it.
    """

    def __init__(self, folder: Path, *, log: Path | None = None, durable: bool = True) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._pid_file = self._data / "postmaster.pid"
        self._durable = durable
        self._programs = postgres_programs()
        self.version = " ".join(version_of(self._programs / "postgres", r"(PostgreSQL)\) (\d[\w.]*)"))
        self._endpoint = Endpoint(self._folder)
        self._process = Process(log or self._folder / "log")

    @property
    def url(self) -> str:
        return f"postgresql://{NAME}:{self._endpoint.password}@{HOST}:{self._endpoint.port}/{NAME}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.alive

    def start(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._endpoint.make_password()
        self._end_leftovers()
        identity = identity_for(self._folder, self._programs / "postgres", refuses_root=True)
        if not self._data.exists():
            self._create(identity)
        self._endpoint.start(lambda port: self._start_on(port, identity))

    def stop(self) -> None:
        self._process.end(signal.SIGINT, signal.SIGQUIT)  # SIGTERM would wait for clients to leave

    def kill(self) -> None:
        self._process.end()

    def _end_leftovers(self) -> None:
        postmaster = self._recorded_pid()
        programs = {"postgres", "initdb"}
        end_leftovers(self._folder, programs, ask=signal.SIGINT, whom=postmaster, title=self._title)
        if postmaster and Path(f"/proc/{postmaster}").exists():
            # A zombie or, after a power cut, somebody else with the same pid: PostgreSQL would make way for either.
            self._pid_file.unlink()

    @property
    def _title(self) -> str:
        """Shown by each process of this server, and by no other's; not the password."""
        return "allocation-" + sha256(self._endpoint.password.encode()).hexdigest()[:16]

    def _create(self, identity: str) -> None:
        """In another place first, so that data in its place is whole."""
        fresh = self._folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        launcher = Launcher(self._folder, identity, signal.SIGINT)
        initdb = ["-D", str(fresh), "-U", NAME, "-A", "scram-sha-256", f"--pwfile={self._endpoint.password_file}"]
        initdb += ["-E", "UTF8", f"--locale={LOCALE}", *([] if self._durable else ["--no-sync"])]
        launcher.run(self._programs / "initdb", *initdb)
        without_clients = ["--single", "-D", str(fresh), *self._settings(exit_on_error="on"), "postgres"]
        launcher.run(self._programs / "postgres", *without_clients, stdin=f"CREATE DATABASE {NAME}\n")
        fresh.rename(self._data)

    def _start_on(self, port: int, identity: str) -> None:
        launcher = Launcher(self._folder, identity, signal.SIGINT)
        command = ["-D", str(self._data), *self._settings(**SETTINGS, port=str(port), cluster_name=self._title)]
        self._process.start(launcher, self._programs / "postgres", *command, ready=self._is_ready)

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
