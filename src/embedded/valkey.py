"""One Valkey or Redis: TCP, a password and, if it is to be durable, an append-only file."""

import signal
import socket
from pathlib import Path

from embedded.binaries import redis_server
from embedded.endpoint import HOST, Endpoint
from embedded.errors import EmbeddedServersError
from embedded.identity import identity_for
from embedded.leftovers import end_leftovers
from embedded.process import Launcher, Process, version_of

OLDEST = (6, 2)

CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly {durable}
appendfsync everysec
"""


class Redis:
    """Everything it keeps is in `folder`, which belongs to the one object that starts it.

    Start it from a thread that stays: on Linux the server ends with the thread that started it.
    """

    def __init__(self, folder: Path, *, log: Path | None = None, durable: bool = True) -> None:
        self._folder = folder.resolve()
        self._durable = durable
        self._program = redis_server()
        self.version = _version_of(self._program)
        self._endpoint = Endpoint(self._folder)
        self._process = Process(log or self._folder / "log")

    @property
    def url(self) -> str:
        return f"redis://:{self._endpoint.password}@{HOST}:{self._endpoint.port}/0"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.alive

    def start(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._endpoint.make_password()
        end_leftovers(self._folder, {"valkey-server", "redis-server", self._program.name[:15]}, ask=signal.SIGTERM)
        identity = identity_for(self._folder, self._program, refuses_root=False)
        self._endpoint.start(lambda port: self._start_on(port, identity))

    def stop(self) -> None:
        self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        self._process.end()

    def _start_on(self, port: int, identity: str) -> None:
        configuration = CONFIGURATION.format(
            host=HOST,
            port=port,
            password=self._endpoint.password,  # on its standard input: anybody may read a command line
            durable="yes" if self._durable else "no",
        )
        self._process.start(
            Launcher(self._folder, identity), self._program, "-", stdin=configuration, ready=lambda: self._answers(port)
        )

    def _answers(self, port: int) -> bool:
        try:
            with socket.create_connection((HOST, port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._endpoint.password}\r\nPING\r\n".encode())
                said = b""
                while said.count(b"\r\n") < 2 and (more := connection.recv(100)):
                    said += more
        except OSError:
            return False
        return said == b"+OK\r\n+PONG\r\n"


def _version_of(program: Path) -> str:
    product, version = version_of(program, r"(Valkey|Redis) server v=(\d+\.\d+[\w.]*)")
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise EmbeddedServersError(f"{program} is {product} {version}, and the oldest that will do is 6.2")
    return f"{product} {version}"
