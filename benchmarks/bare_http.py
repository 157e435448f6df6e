"""The bare allocation behind HTTP: a plain WSGI function under the same server as the service.

`python -m benchmarks.bare_http PORT WORKERS THREADS DATABASE_URL`. `/noop` does nothing, which shows what HTTP costs.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable
from functools import partial
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from allocation.config import Settings
from allocation.entrypoints.http.bridge import Bridge
from allocation.entrypoints.http.routes import LARGEST_BODY
from allocation.entrypoints.http.server import serve
from benchmarks import bare
from benchmarks.processes import HOST


def application(url: str) -> WSGIApplication:
    """With one connection for each thread that asks."""
    own = threading.local()

    def allocate(body: bytes) -> str | None:
        asked = json.loads(body)
        if not hasattr(own, "connection"):
            own.connection = bare.connect(url)
        return bare.allocate(own.connection, asked["orderid"], asked["sku"], asked["qty"])

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
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


def load(url: str, threads: int) -> Bridge:
    return Bridge(
        application(url),
        threads,
        LARGEST_BODY,
        is_trusted_proxy=lambda _: False,
        end_streams=lambda: None,
        close=lambda: None,
    )


if __name__ == "__main__":
    port, workers, threads, url = sys.argv[1:]
    settings = Settings(host=HOST, port=int(port), workers=int(workers), log_level="WARNING")
    serve(settings, int(threads), partial(load, url, int(threads)))
