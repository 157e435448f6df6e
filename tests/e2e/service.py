"""`allocation run` as a child process, on embedded servers of its own that it starts and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any

import psycopg
from tests.e2e.client import Client
from tests.e2e.processes import Process, processes_of
from tests.e2e.waiting import PATIENCE, eventually

PARTS = ("serve", "consume", "relay")
SETTINGS = {
    *("DATABASE_URL", "REDIS_URL", "SMTP_URL", "ALLOCATION_HOME", "HOST", "PORT", "WEB_CONCURRENCY"),
    *(
        "API_KEYS",
        "RATE_LIMIT",
        "EVENTS_STAY",
        "MAIL_FROM",
        "MAIL_TO",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "DB_HOST",
        "DB_PASSWORD",
        "REDIS_HOST",
        "EMAIL_HOST",
        "API_HOST",
    ),
}


def allocation(*arguments: str) -> list[str]:
    """The command line that a person types."""
    return [sys.executable, "-m", "allocation", *arguments]


def environment(**settings: str) -> dict[str, str]:
    """Ours, with these settings and no others."""
    return {name: value for name, value in os.environ.items() if name not in SETTINGS} | settings


def free_port() -> int:
    """Not one that the kernel gives to outgoing connections: a client that knocks at a server which is away could be
    given the server's own port, and meet itself."""
    candidates = SystemRandom().sample(range(10_000, 20_000), 100)
    return next(port for port in candidates if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(slots=True)
class Service:
    """Its data and its log stay in `home` when it ends."""

    home: Path
    smtp_url: str
    port: int = field(default_factory=free_port)
    _run: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}", self._notice()["servers"]["redis_url"])

    @property
    def database_url(self) -> str:
        url: str = self._notice()["servers"]["database_url"]
        return url

    @property
    def redis_url(self) -> str:
        url: str = self._notice()["servers"]["redis_url"]
        return url

    @property
    def is_running(self) -> bool:
        return self._run is not None and self._run.poll() is None

    @property
    def pid(self) -> int:
        """Of `allocation run` itself."""
        assert self._run, "never started"
        return self._run.pid

    def start(self) -> None:
        self._output.unlink(missing_ok=True)
        self._run = self._start("run", "--port", str(self.port))

    @contextmanager
    def second_api(self, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
        """`allocation serve` on the same servers, beside our own."""
        urls = self._notice()["servers"]
        port = free_port()
        settings = {"DATABASE_URL": urls["database_url"], "REDIS_URL": urls["redis_url"]} | settings
        with self._start("serve", "--port", str(port), **settings) as process:
            client = Client(f"http://127.0.0.1:{port}", urls["redis_url"])
            try:
                eventually(client.is_ready, "the second API is ready")
                yield process, client
            finally:
                process.terminate()

    def until_ready(self) -> Client:
        """Wait for all parts, with nothing of a former life among them."""
        eventually(self._is_ready, "the service is ready", within=2 * PATIENCE)
        return self.client

    def said(self) -> str:
        """All that its processes have printed and logged since the last start."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def pid_of(self, part: str) -> int:
        """A part is a child of `allocation run`."""
        found = [process.pid for process in self.processes() if process.parent == self.pid and _is(part, process)]
        assert len(found) == 1, f"not one {part}: {found}"
        return found[0]

    def pid_of_server(self, name: str) -> int:
        """An embedded server, or its supervisor."""
        return int(self._notice()["pids"][name])

    def kill(self, part: str) -> None:
        """`kill -9` a part, but not what it has started, and see it gone."""
        self._kill(self.pid_of(part))

    def kill_api(self) -> None:
        """`kill -9` the API with all its workers."""
        self._kill(*(process.pid for process in self.processes() if _is("serve", process)))

    def kill_worker(self) -> None:
        """`kill -9` one of the API's workers."""
        api = self.pid_of("serve")
        self._kill(next(process.pid for process in self.processes() if process.parent == api))

    def kill_workers(self) -> None:
        """`kill -9` all of the API's workers, and see as many again."""
        api = self.pid_of("serve")
        killed = {process.pid for process in self.processes() if process.parent == api}
        self._kill(*killed)
        eventually(
            lambda: len({p.pid for p in self.processes() if p.parent == api} - killed) == len(killed),
            "there are others",
        )

    def kill_server(self, name: str) -> None:
        self._kill(self.pid_of_server(name))

    def kill_all(self) -> None:
        while left := [process.pid for process in self.processes()]:
            self._kill(*left)

    def signal(self, number: signal.Signals) -> None:
        """As `kill` sends it: to `allocation run` alone."""
        os.kill(self.pid, number)

    def press_ctrl_c(self) -> None:
        """As a terminal sends it: to all of the foreground's process group."""
        os.killpg(self.pid, signal.SIGINT)

    def until_ended(self) -> int:
        """The exit code, once nothing is left of it."""
        assert self._run, "never started"
        eventually(lambda: not self.is_running, "allocation run ends")
        eventually(lambda: not self.processes(), "nothing of it is left running")
        return self._run.wait()

    def processes(self) -> list[Process]:
        return processes_of(self.home)

    def command(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """What a person types beside the running service, and what is printed."""
        env = environment(ALLOCATION_HOME=str(self.home), **settings)
        return subprocess.run(allocation(*arguments), env=env, capture_output=True, text=True, timeout=60, check=False)

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self._notice()["servers"]["database_url"]) as connection:
            yield connection

    @property
    def _output(self) -> Path:
        return self.home / "output"

    def _start(self, *command: str, **settings: str) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(
                allocation(*command),
                env=environment(
                    ALLOCATION_HOME=str(self.home),
                    SMTP_URL=self.smtp_url,
                    http_proxy="http://127.0.0.1:9",  # many a machine has one, which can't reach the machine itself
                    **settings,
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a process group of its own, like a terminal's foreground job
            )

    def _notice(self) -> dict[str, Any]:
        """Where the servers are; it is not there while one of them is down."""

        def read() -> dict[str, Any] | None:
            try:
                return json.loads((self.home / "servers.json").read_text())  # type: ignore[no-any-return]
            except FileNotFoundError:
                assert self.is_running, "allocation run has ended"
                return None

        return eventually(read, "servers.json is there") or {}

    def _is_ready(self) -> bool:
        assert self.is_running, "allocation run has ended"
        return self.client.is_ready() and self._is_complete() and self.client.is_listened_to()

    def _is_complete(self) -> bool:
        """The servers, one of each part, workers below the API, and none that has lost its parent."""
        found = self.processes()
        parts = {part: [each for each in found if _is(part, each) and each.parent == self.pid] for part in PARTS}
        if any(len(children) != 1 for children in parts.values()):
            return False
        api = parts["serve"][0]
        workers = [each for each in found if _is("serve", each) and each != api]
        servers = {*self._notice()["pids"].values()}
        return (
            bool(workers)
            and all(worker.parent == api.pid for worker in workers)
            and servers <= {process.pid for process in found}
        )

    def _kill(self, *pids: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):  # it has ended with another of them
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not {process.pid for process in self.processes()} & {*pids}, f"{pids} are gone")


def _is(part: str, process: Process) -> bool:
    return f"-m allocation {part}" in process.command
