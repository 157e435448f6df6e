"""A server's port and password: chosen once and remembered, so that a URL outlives the server behind it."""

import random
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from embedded.errors import EmbeddedServersError
from embedded.files import write_private

HOST = "127.0.0.1"

# Below the ports that the kernel gives to outgoing connections: a client that keeps knocking at a
# stopped server could be given that server's own port, meet itself, and keep the server out.
PORTS = range(20_000, 32_000)


class Endpoint:
    """Kept in the files `port` and `password` of a server's folder."""

    def __init__(self, folder: Path) -> None:
        self.password_file = folder / "password"
        self._port_file = folder / "port"
        self._port: int | None = None

    def make_password(self) -> None:
        if not self.password_file.exists():
            write_private(self.password_file, secrets.token_hex(20))

    @property
    def password(self) -> str:
        return self.password_file.read_text()

    @property
    def port(self) -> int:
        assert self._port, "known from the first start on"
        return self._port

    def start(self, start_on: Callable[[int], None]) -> None:
        """On the same port as before; the first time on the remembered one if it is free, else on another."""
        if self._port:
            start_on(self._port)
            return
        for port in filter(is_free, self._candidates()):
            try:
                start_on(port)
            except EmbeddedServersError:
                if is_free(port):  # then the port was not the reason
                    raise
            else:
                write_private(self._port_file, str(port))
                self._port = port
                return
        raise EmbeddedServersError(f"found no free port between {PORTS.start} and {PORTS.stop} on {HOST}")

    def _candidates(self) -> Iterator[int]:
        with suppress(FileNotFoundError, ValueError):  # none of ours may be what stands there
            remembered = int(self._port_file.read_text())
            if remembered in PORTS:
                yield remembered
        yield from random.sample(PORTS, 100)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections still closing do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
