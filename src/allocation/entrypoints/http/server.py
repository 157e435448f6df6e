"""Serves the API with gunicorn: several processes, each with several threads and its own service."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import deque
from collections.abc import Iterable
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from select import POLLIN, poll
from threading import local
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from gunicorn import glogging, util
from gunicorn.app.base import BaseApplication
from gunicorn.config import Config

from allocation.config import Settings
from allocation.entrypoints import console
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.back_pressure import WAITED
from allocation.entrypoints.http.doors import doors_of
from allocation.entrypoints.http.input import LARGEST_BODY
from allocation.entrypoints.http.polling_worker import PollingWorker
from allocation.entrypoints.http.rates import Rates
from allocation.entrypoints.http.traces import add_traces
from allocation.entrypoints.memory import settle_memory
from allocation.observers import observed
from allocation.redaction import without_secrets

MOST_CONNECTIONS = 1000
"""Of clients to one process."""

OTHER_FILES = 100
"""Descriptors that a process needs beside those, and one for each thread."""

_DRAIN = 3
_LINGER = 2
_LONGEST_MESSAGE = 300
_this_thread = local()


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn ships no types
    """Leaves rendering to the service's own logging."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self._said = Rates()
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def debug(self, message: str, *arguments: object, **further: Any) -> None:
        """gunicorn says its whole configuration at once; one event is one line."""
        super().debug(" ".join(message.split()), *arguments, **further)

    def warning(self, message: str, *arguments: object, **further: Any) -> None:
        """Strangers can have that said as often, and at such length, as they like."""
        if not message.startswith("Invalid request from"):
            super().warning(message, *arguments, **further)
        elif not self._said.wait("invalid", per_second=1):
            super().warning(_cut(message), *arguments, **further)


class Worker(PollingWorker):
    """Notes how long a request has waited for a thread. Stays with a client for a moment while nobody waits: a client
    at work asks again at once, and to hand it back and forth costs as much as to answer it. Stops listening when it is
    told to end: gunicorn's own would leave new clients waiting, and then reset them."""

    largest_body = LARGEST_BODY

    def __init__(self, *arguments: Any, **further: Any) -> None:
        super().__init__(*arguments, **further)
        self._waiting: deque[float] = deque()  # since when

    def enqueue_req(self, conn: Any) -> None:
        self._waiting.append(time.monotonic())
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Threads take connections in the order in which they came."""
        _this_thread.waited = time.monotonic() - self._waiting.popleft()
        keep = super().handle(conn)
        while keep is True and self.alive and not self._waiting and _asks_again(conn):
            _this_thread.waited = 0.0
            keep = super().handle(conn)
        return keep

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()
            console.end_streams(self.wsgi)


def _asks_again(conn: Any) -> bool:
    """Within two milliseconds, and with all of the next request. Whoever has gone, or has not yet taken all of the last
    answer, is left to the poller."""
    if conn.sock.is_behind:
        return False
    if not conn.buffer.is_ready:
        readiness = poll()
        readiness.register(conn.sock, POLLIN)
        if readiness.poll(_LINGER):
            conn.receive()
    return bool(conn.buffer.is_ready)


class ApiServer(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    def __init__(self, settings: Settings, threads: int) -> None:
        self._settings = settings
        self._threads = threads
        super().__init__()

    def load_config(self) -> None:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        options = {
            "bind": f"{host}:{self._settings.port}",
            "workers": self._settings.workers,
            "threads": self._threads,
            "worker_class": Worker,
            "graceful_timeout": _DRAIN,
            "keepalive": 5,
            "timeout": 30,
            "worker_connections": make_room_for_connections(self._threads),
            "sendfile": False,  # which would wait for the client
            "forwarder_headers": "",  # nobody says where we are mounted
            "control_socket_disable": True,
            "limit_request_line": 8190,
            "limit_request_field_size": 8190,
            "limit_request_fields": 100,
            "loglevel": self._settings.log_level.lower(),
            "logger_class": Logger,
            "proc_name": "allocation serve",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in each worker, after the fork: nothing with a connection is shared between processes."""
        service = observed(self._settings, connections=self._threads, callers_wait=True)
        app = create_app(service, doors_of(self._settings, service.keys))
        add_traces(app, service.bus.observer)
        console.limit_streams(app, self._threads // 4)
        app.wsgi_app = telling_how_long_it_waited(app.wsgi_app)  # type: ignore[method-assign, assignment]  # Flask's way
        settle_memory()
        return app


def telling_how_long_it_waited(app: WSGIApplication) -> WSGIApplication:
    """Hands on what the worker noted."""

    def with_waited(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[WAITED] = getattr(_this_thread, "waited", 0.0)
        return app(environ, start_response)

    return with_waited


def serve(settings: Settings, threads: int) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight."""
    util.write_error = _write_json_error  # gunicorn answers malformed HTTP in HTML, and has no setting for it
    ApiServer(settings, threads).run()


def make_room_for_connections(threads: int) -> int:
    """Raise the soft limit of open files as far as we need; how many connections there are descriptors for then."""
    others = OTHER_FILES + threads
    soft, hard = (sys.maxsize if limit == RLIM_INFINITY else limit for limit in getrlimit(RLIMIT_NOFILE))
    enough = min(MOST_CONNECTIONS + others, hard)
    if soft < enough:
        setrlimit(RLIMIT_NOFILE, (enough, getrlimit(RLIMIT_NOFILE)[1]))
    return max(min(MOST_CONNECTIONS, max(soft, enough) - others), 2 * threads)


def _write_json_error(client: socket.socket, status: int, reason: str, message: str) -> None:
    status = 400 if status == 501 else status  # a transfer coding that nobody knows is the client's fault
    said = _cut(f"{reason}: {message}" if message else reason)
    body = json.dumps({"message": said}).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode("latin1") + body)


def _cut(message: str) -> str:
    """Without secrets first: one that is cut in two is no longer known for one."""
    said = without_secrets(message)
    return said if len(said) <= _LONGEST_MESSAGE else f"{said[:_LONGEST_MESSAGE]} ..."
