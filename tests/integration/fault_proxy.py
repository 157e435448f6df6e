"""A TCP proxy between us and a server that counts round trips, and can fall silent, go away, or lose the answer to a
COMMIT."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Literal

from sqlalchemy import make_url

_FLUSH = b"H\0\0\0\4"
"""Which the driver sends after a Sync, and nobody answers."""
_READY = b"Z\0\0\0\5I"
"""With which the server says that it is ready, and in no transaction."""


class FaultProxy:
    """On a port of its own until `close`."""

    def __init__(self, url: str) -> None:
        where = make_url(url)
        self._server = (where.host or "", where.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self.url = where.set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)
        self._flows = Event()
        self._flows.set()
        self._swallow = Event()
        self.swallowed = Event()
        self.round_trips = 0
        self._heard_last = False  # of the two, whether the server spoke last
        self._after_the_login: Literal["cut", "silent"] | None = None
        self._lock = Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Connections are still taken, and nothing comes through any more."""
        self._flows.clear()

    def forget_all(self) -> None:
        """Nothing comes through any more of the connections that there are, as when a firewall has forgotten them."""
        self._flows.clear()
        self._flows = Event()
        self._flows.set()

    def speak_again(self) -> None:
        self._after_the_login = None
        self._flows.set()

    def after_the_login(self, *, cut: bool) -> None:
        """Connections are taken and let in. Then they are cut, or nothing comes through any more."""
        self._after_the_login = "cut" if cut else "silent"

    def lose_the_next_answer_to_commit(self) -> None:
        """And with it the connection."""
        self._swallow.set()

    def cut(self) -> int:
        """End every connection; says how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _end(*pair)
        return len(pairs)

    def close(self) -> None:
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                with self._lock:
                    self._pairs.append((client, server))
                asked, flows = Event(), self._flows if self._after_the_login != "silent" else _flowing()
                Thread(target=self._carry, args=(client, server, asked, flows, True), daemon=True).start()
                Thread(target=self._carry, args=(server, client, asked, flows, False), daemon=True).start()

    def _carry(
        self, source: socket.socket, target: socket.socket, asked_to_commit: Event, flows: Event, asks: bool
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                flows.wait()
                if data != _FLUSH:
                    self.round_trips += not asks and not self._heard_last
                    self._heard_last = not asks
                if asks and self._swallow.is_set() and b"COMMIT" in data:
                    asked_to_commit.set()
                elif not asks and asked_to_commit.is_set():
                    self._swallow.clear()
                    self.swallowed.set()
                    break
                target.sendall(data)
                if not asks and self._after_the_login and data.endswith(_READY):
                    if self._after_the_login == "cut":
                        break
                    flows.clear()
        _end(source, target)


def _flowing() -> Event:
    flows = Event()
    flows.set()
    return flows


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
