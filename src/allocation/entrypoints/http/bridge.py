"""Lets threads run a WSGI application under granian: each is given a request that has arrived, and never waits for a
client."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from multiprocessing import parent_process
from queue import SimpleQueue
from threading import Thread, Timer
from types import CoroutineType
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

from granian.rsgi import HTTPProtocol, ProtocolClosed, Scope  # type: ignore[attr-defined]  # as documented

from allocation.entrypoints.http.back_pressure import WAITED
from allocation.entrypoints.http.input import TWO_KEYS

log = logging.getLogger(__name__)

LONGEST_ARRIVAL = 5.0
"""Seconds from the end of a request's head to the end of its body. Who needs more is answered 408."""

_LOOK_AROUND = 0.25
_FOR_TOO_LARGE = 1.0
_LONGEST_END = 40.0
"""Longer than any request may take."""

_MOST_TAKEN = 16 * 1024 * 1024
_MORE_THAN_ANYBODY_TAKES = str(1 << 62)
_UNREADABLE = "\xff"


class Loop(asyncio.SelectorEventLoop):
    """Takes the steps of a request in the thread in which granian says that they can be taken. To wake the loop's own
    thread for a request, and again for its body, takes longer than many an answer."""

    at_end: Callable[[], None] | None = None

    def call_soon_threadsafe(  # type: ignore[override]  # Any for what is of any type
        self, callback: Any, *arguments: Any, context: Any = None
    ) -> Any:
        if arguments and isinstance(arguments[0], CoroutineType):
            return _Task(arguments[0])()
        if isinstance(callback, _Task):
            return callback(*arguments)
        return super().call_soon_threadsafe(callback, *arguments, context=context)

    def add_signal_handler(  # type: ignore[override]  # as above
        self, sig: int, callback: Any, *arguments: Any
    ) -> None:
        def handle() -> None:
            if self.at_end:
                self.at_end()
            callback(*arguments)

        super().add_signal_handler(sig, handle)


class _Task:
    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: CoroutineType[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __call__(self, future: Any = None) -> None:
        """Go on, now that what was waited for is there, or was given up."""
        coroutine = self._coroutine
        given_up = future is not None and future.cancelled()
        with suppress(StopIteration):
            waits_for = coroutine.throw(asyncio.CancelledError) if given_up else coroutine.send(None)
            waits_for.add_done_callback(self, context=None)


class _Request:
    """To be awaited until a thread has answered it."""

    __slots__ = ("answered", "arrived", "body", "headers", "protocol", "queue", "scope")
    answered: _Task

    def __init__(
        self,
        scope: Scope,
        headers: Any,
        protocol: HTTPProtocol,
        body: bytes | None,
        queue: SimpleQueue[_Request],
    ) -> None:
        self.scope, self.headers, self.protocol, self.body, self.queue = scope, headers, protocol, body, queue
        self.arrived = time.monotonic()

    def __await__(self) -> Generator[_Request, None, None]:
        yield self

    def add_done_callback(self, task: _Task, context: None) -> None:  # noqa: ARG002 - as a future has it
        self.answered = task
        self.queue.put(self)


class Bridge:
    """The RSGI application. It is made in the process that serves. When that is to end `end_streams` is called, and
    `close` when all is answered. A client whose address is that of a trusted proxy says itself how it was reached."""

    def __init__(
        self,
        application: WSGIApplication,
        threads: int,
        largest_body: int,
        *,
        is_trusted_proxy: Callable[[str], bool],
        end_streams: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        self._application = application
        self._largest_body = largest_body
        self._is_trusted_proxy = is_trusted_proxy
        self._end_streams = end_streams
        self._close = close
        self._requests = SimpleQueue[_Request]()
        self._arriving: dict[HTTPProtocol, tuple[float, Any]] = {}  # until when, and what is waited for
        for number in range(threads):
            Thread(target=self._work, name=f"web-{number}", daemon=True).start()

    # --- in granian's threads ------------------------------------------------------

    def __rsgi_init__(self, loop: Loop) -> None:
        self._loop = loop
        loop.at_end = self._end_streams
        self._look_around()

    def __rsgi_del__(self, _: Loop) -> None:
        self._close()

    async def __rsgi__(self, scope: Scope, protocol: HTTPProtocol) -> None:
        headers = scope.headers
        in_chunks, length = "transfer-encoding" in headers, int(headers.get("content-length", "0"))
        is_too_large = length > self._largest_body
        body: bytes | None = b""
        try:
            if in_chunks or is_too_large:
                body = await self._pieces(protocol, is_too_large)
            elif length:
                body = await self._in_time(protocol, protocol(), time.monotonic() + LONGEST_ARRIVAL)
        except asyncio.CancelledError:
            _refuse(protocol, 408, f"the body took longer than {LONGEST_ARRIVAL:.0f} seconds")
        except ProtocolClosed:
            _refuse(protocol, 400, "the body ends too early, or is not as its head says")
        else:
            await _Request(scope, headers, protocol, body, self._requests)

    async def _pieces(self, protocol: HTTPProtocol, is_too_large: bool) -> bytes | None:
        """None: it is too large. As long as it comes it is taken all the same: who has not sent all of it may not look
        for the answer, and would lose it if the connection were closed. granian gives an empty piece for the end, and
        two of them for a fault."""
        body, empty, left, begun = bytearray(), 0, _MOST_TAKEN, time.monotonic()
        pieces = aiter(protocol)
        try:
            while left > 0:
                patience = _FOR_TOO_LARGE if is_too_large else LONGEST_ARRIVAL
                piece = await self._in_time(protocol, anext(pieces), begun + patience)
                empty += not piece
                left -= len(piece)
                body += b"" if is_too_large else piece
                is_too_large = is_too_large or len(body) > self._largest_body
        except StopAsyncIteration:
            if empty > 1:
                raise ProtocolClosed from None
        except asyncio.CancelledError:
            if not is_too_large:
                raise
        return None if is_too_large else bytes(body)

    async def _in_time(self, protocol: HTTPProtocol, future: Any, late: float) -> bytes:
        self._arriving[protocol] = late, future
        try:
            piece: bytes = await future
        finally:
            del self._arriving[protocol]
        return piece

    def _look_around(self) -> None:
        """For requests that are late, and for the parent, which may have been killed."""
        if (parent := parent_process()) and parent.pid != os.getppid():
            _end_alone()
            return
        self._loop.call_later(_LOOK_AROUND, self._look_around)
        now = time.monotonic()
        for late, body in list(self._arriving.values()):
            if late < now:
                body.cancel()

    # --- in our threads ------------------------------------------------------------

    def _work(self) -> None:
        while True:
            request = self._requests.get()
            try:
                self._answer(request)
            except BaseException as error:
                log.exception("can't answer", extra={"error": repr(error)})
                _refuse(request.protocol, 500, "internal error")
            request.answered()
            del request  # else it would live until the next one comes

    def _answer(self, request: _Request) -> None:
        status, headers = 500, list[tuple[str, str]]()

        def start_response(given: str, those: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
            nonlocal status, headers
            status, headers = int(given[:3]), those
            return _write

        environ = _environ(request)
        if environ.get("HTTP_X_FORWARDED_PROTO") == "https" and self._is_trusted_proxy(environ["REMOTE_ADDR"]):
            environ["wsgi.url_scheme"] = "https"
        answer = self._application(environ, start_response)
        try:
            if any(name.lower() == "content-length" for name, _ in headers):
                request.protocol.response_bytes(status, headers, b"".join(answer))
            else:
                _stream(answer, request.protocol.response_stream(status, headers))
        finally:
            if close := getattr(answer, "close", None):
                close()


def _environ(request: _Request) -> WSGIEnvironment:
    scope, headers = request.scope, request.headers
    server, _, port = scope.server.rpartition(":")
    client = scope.client.rpartition(":")[0].strip("[]")
    environ: WSGIEnvironment = {_variable(name): _value(headers.get_all(name)) for name in headers if "_" not in name}
    environ |= {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string.encode().decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "SERVER_NAME": server.strip("[]") or "localhost",
        "SERVER_PORT": port if port.isdigit() else "80",
        "REMOTE_ADDR": client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(request.body or b""),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        WAITED: time.monotonic() - request.arrived,
        TWO_KEYS: len(headers.get_all("idempotency-key")) > 1,
    }
    environ["CONTENT_LENGTH"] = _MORE_THAN_ANYBODY_TAKES if request.body is None else str(len(request.body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return environ


@lru_cache(256)
def _variable(name: str) -> str:
    variable = name.upper().replace("-", "_")
    return variable if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{variable}"


def _value(values: list[str]) -> str:
    """Those that are not ASCII are not in the list; the application shall see that there was something."""
    return ",".join(values) if values else _UNREADABLE


def _stream(pieces: Iterable[bytes], transport: Any) -> None:
    """Until the end, or until the client has gone."""
    with suppress(ProtocolClosed):
        for piece in pieces:
            next(transport.send_bytes(piece).__await__(), None)


def _refuse(protocol: HTTPProtocol, status: int, message: str) -> None:
    """It has no effect when there was an answer."""
    headers = [("content-type", "application/json"), ("connection", "close")]
    protocol.response_bytes(status, headers, json.dumps({"message": message}).encode())


def _write(_: bytes) -> object:
    raise NotImplementedError("nothing writes other than by its answer")


def _end_alone() -> None:
    """Without a parent, who would kill us if granian hung while it stops, as it has been seen to."""
    last = Timer(_LONGEST_END, os._exit, (1,))
    last.daemon = True
    last.start()
    os.kill(os.getpid(), signal.SIGTERM)
