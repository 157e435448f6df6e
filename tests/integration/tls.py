"""TLS in front of a server that speaks none, as a proxy beside it would do it: for PostgreSQL and for Redis."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import trustme

_SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"  # with which a client of PostgreSQL begins


class TlsProxy:
    """Speaks TLS on a port of its own, and passes on what it hears; its certificate is for 127.0.0.1."""

    def __init__(self, url: str, folder: Path, *, postgres: bool) -> None:
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._postgres = postgres
        where = urlsplit(url)
        self._server = (where.hostname or "", where.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.versions: list[str | None] = []  # of TLS, one for each connection
        user, _, _ = where.netloc.rpartition("@")
        self.url = where._replace(netloc=f"{user}@127.0.0.1:{self._listener.getsockname()[1]}").geturl()
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if self._postgres:
                if client.recv(8, socket.MSG_WAITALL) != _SSL_REQUEST:
                    return
                client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as secure,
                socket.create_connection(self._server) as server,
            ):
                self.versions.append(secure.version())
                Thread(target=_pass_on, args=(server, secure), daemon=True).start()
                _pass_on(secure, server)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
