"""A server in a process of its own, with an application that says what it was asked."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from allocation.config import Settings
from allocation.entrypoints.http import server
from allocation.entrypoints.http.back_pressure import WAITED
from allocation.entrypoints.http.bridge import Bridge
from allocation.entrypoints.http.input import TWO_KEYS
from allocation.observability.logs import configure_logging

T = TypeVar("T")
Answer = tuple[int, dict[str, str], bytes]

THREADS = 4
LARGEST_BODY = 1000
MUCH = b"x" * 2_000_000
PATIENCE = 20.0


def wait_for(question: Callable[[], T], hope: str, within: float = PATIENCE) -> T:
    deadline = time.monotonic() + within
    while not (answer := question()):
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {hope}"
        time.sleep(0.01)
    return answer


def application(log: Path, ended: Event) -> WSGIApplication:
    """Notes in `log` what has come, and answers with it. Some paths do more."""

    def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        path = environ["PATH_INFO"]
        body = environ["wsgi.input"].read(LARGEST_BODY + 1)
        said: dict[str, Any] = {name: value for name, value in environ.items() if isinstance(value, str)}
        said |= {
            "body": body.decode("latin-1"),
            "waited": environ[WAITED],
            TWO_KEYS: environ[TWO_KEYS],
            "pid": os.getpid(),
        }
        with log.open("a") as file:
            file.write(f"{environ['REQUEST_METHOD']} {path}\n")
        if path == "/wait":
            until = Path(environ["QUERY_STRING"])
            wait_for(until.exists, "the test says that it may be answered")
        if path == "/fail":
            raise ZeroDivisionError("secret")
        if path == "/odd":
            start_response("200 OK", [("X", "a\r\nSet-Cookie: b"), ("Content-Length", "0")])
            return []
        if path == "/stream":
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            return stream(ended)
        answer = MUCH if path == "/much" else json.dumps(said).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer]

    return echo


def stream(ended: Event) -> Iterator[bytes]:
    while not ended.wait(0.05):
        yield b": here\n\n"
    yield b"data: the end\n\n"


def load(settings: Settings, log: Path) -> Bridge:
    configure_logging("INFO", "json")
    ended = Event()
    return Bridge(
        application(log, ended),
        THREADS,
        LARGEST_BODY,
        is_trusted_proxy=settings.trusts_proxy,
        end_streams=ended.set,
        close=log.with_name("closed").touch,
    )


def run(settings: Settings, log: Path, method: str, errors: Path) -> None:
    sys.stderr = errors.open("a", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    multiprocessing.set_start_method(method, force=True)
    configure_logging("INFO", "json")
    server.serve(settings, THREADS, partial(load, settings, log))


@dataclass(frozen=True)
class Web:
    settings: Settings
    log: Path
    errors: Path
    process: Any

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        if self.settings.socket:
            connection = socket.socket(socket.AF_UNIX)
            where: Any = str(self.settings.socket)
        else:
            connection = socket.socket(socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET)
            where = self.settings.host, self.settings.port
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(where)
        except OSError:
            connection.close()
            raise
        if self.settings.tls_certificate:
            context = ssl.create_default_context(cafile=str(self.settings.home / "authority.pem"))
            connection = context.wrap_socket(connection, server_hostname=self.settings.host)
        return connection

    def said_to(self, request: bytes, *, then_close: bool = False) -> bytes:
        """All that is answered until the server ends the connection."""
        with self.connect() as connection:
            connection.sendall(request)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
            return all_of(connection)

    def ask(self, path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
        lines += [f"Content-Length: {len(body)}"] if body else []
        head, _, rest = self.said_to("\r\n".join([*lines, "", ""]).encode("latin-1") + body).partition(b"\r\n\r\n")
        first, *others = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in others), rest

    def heard_of(self, path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> dict[str, Any]:
        """What the application says that it was asked."""
        status, _, said = self.ask(path, *headers, method=method, body=body)
        assert status == 200, said
        return json.loads(said)  # type: ignore[no-any-return]

    def came(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def is_up(self) -> bool:
        try:
            return self.ask()[0] == 200
        except OSError:
            return False

    def workers(self) -> set[int]:
        """Process ids."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in children.split()}

    def ends(self) -> int:
        """The exit code after SIGTERM."""
        self.process.terminate()
        self.process.join(PATIENCE)
        code: int = self.process.exitcode
        return code


def all_of(connection: socket.socket) -> bytes:
    heard = b""
    try:
        while more := connection.recv(65536):
            heard += more
    except ConnectionResetError:
        heard += b"<reset>"
    return heard


@contextmanager
def web(folder: Path, method: str = "fork", **settings: Any) -> Iterator[Web]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen = replace(Settings(home=folder, port=port, workers=1), **settings)
    log, errors = folder / "came", folder / "errors"
    process = multiprocessing.get_context("fork").Process(target=run, args=(chosen, log, method, errors))
    process.start()
    found = Web(chosen, log, errors, process)
    try:
        wait_for(found.is_up, "the server is up")
        yield found
    finally:
        if process.is_alive():
            process.terminate()
            process.join(PATIENCE)
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
