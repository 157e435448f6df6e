"""One Valkey or Redis: TCP, a password and, if it is to be durable, an append-only file."""

import signal
import socket
from pathlib import Path

from embedded.binaries import redis_server
from embedded.endpoint import HOST
from embedded.errors import EmbeddedServersError
from embedded.leftovers import end_leftovers
from embedded.process import Launcher
from embedded.server import Server

OLDEST = (6, 2)
OK_PONG = b"+OK\r\n+PONG\r\n"

CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly {durable}
appendfsync everysec
"""


class Redis(Server):
    refuses_root = False
    stop_signals = (signal.SIGTERM,)
    version_pattern = r"(Valkey|Redis) server v=(\d+\.\d+[\w.]*)"

    def __init__(self, folder: Path, *, log: Path | None = None, durable: bool = True) -> None:
        super().__init__(redis_server(), folder, log=log, durable=durable)
        product, version = self.version.split()
        if tuple(map(int, version.split(".")[:2])) < OLDEST:
            raise EmbeddedServersError(f"{self._program} is {product} {version}, and the oldest that will do is 6.2")

    @property
    def url(self) -> str:
        return f"redis://:{self._endpoint.password}@{HOST}:{self._endpoint.port}/0"

    def _end_leftovers(self) -> None:
        end_leftovers(
            self._folder, {"valkey-server", "redis-server", self._program.name[:15]}, stop_signal=signal.SIGTERM
        )

    def _create_data(self, launcher: Launcher) -> None:
        """It needs none."""

    def _start_on(self, port: int, launcher: Launcher) -> None:
        configuration = CONFIGURATION.format(
            host=HOST,
            port=port,
            password=self._endpoint.password,  # on its standard input: anybody may read a command line
            durable="yes" if self._durable else "no",
        )
        self._process.start(launcher, self._program, "-", stdin=configuration, ready=lambda: self._answers(port))

    def _answers(self, port: int) -> bool:
        try:
            with socket.create_connection((HOST, port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._endpoint.password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answers:
                    return answers.read(len(OK_PONG)) == OK_PONG
        except OSError:
            return False
