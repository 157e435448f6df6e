"""The bare allocation behind HTTP: a plain WSGI function under the same server as the service.

`python -m benchmarks.bare_http PORT WORKERS THREADS DATABASE_URL`. `/noop` does nothing, which shows what HTTP costs.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.app.base import BaseApplication

from benchmarks import bare
from benchmarks.processes import HOST

StartResponse = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def application(url: str) -> Application:
    """With one connection for each thread that asks."""
    own = threading.local()

    def allocate(body: bytes) -> str | None:
        asked = json.loads(body)
        if not hasattr(own, "connection"):
            own.connection = bare.connect(url)
        return bare.allocate(own.connection, asked["orderid"], asked["sku"], asked["qty"])

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        status, body = "200 OK", b"OK"
        if environ["PATH_INFO"] == "/allocate":
            try:
                allocate(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                status = "202 ACCEPTED"
            except bare.UnknownSku:
                status, body = "400 BAD REQUEST", b"unknown SKU"
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    def __init__(self, port: int, workers: int, threads: int, url: str) -> None:
        self._options = {
            "bind": f"{HOST}:{port}",
            "workers": workers,
            "threads": threads,
            "worker_class": "gthread",
            "graceful_timeout": 3,
            "keepalive": 5,
            "control_socket_disable": True,
            "loglevel": "warning",
        }
        self._url = url
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Application:
        return application(self._url)


if __name__ == "__main__":
    port, workers, threads, url = sys.argv[1:]
    Server(int(port), int(workers), int(threads), url).run()
