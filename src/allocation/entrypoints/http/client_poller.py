"""Clients are waited for in one place, by the worker's poller: a thread is given a request that is here, and nothing
else. Who is too slow is cut off, and holds no thread until then.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from allocation.entrypoints.http.framing import Arrival, TooMuch

LONGEST_ARRIVAL = 5.0
"""Seconds from the first byte of a request to its last. A client that needs more is answered 408."""

LONGEST_SILENCE = 5.0
"""Seconds for which a thread waits for a client that takes no more of its answer."""

_LONGEST_FAREWELL = 2.0
_MOST_AFTER_THE_ANSWER = 16 * 1024 * 1024
_AT_ONCE = 64 * 1024
_NOTHING_NEW = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED)


class HandedOver(Unreader):  # type: ignore[misc]  # gunicorn ships no types
    """What was handed over, and no more: the parser never reads from the socket. If it wants to, it thinks that the
    request ends elsewhere than we do."""

    def __init__(self) -> None:
        super().__init__()
        self.ran_dry = False

    def chunk(self, size_hint: int | None = None) -> bytes:  # noqa: ARG002 - gunicorn's
        self.ran_dry = True
        return b""


class Client(TConn):  # type: ignore[misc]  # gunicorn ships no types
    """A connection, and how far its next request has come."""

    def __init__(self, largest_body: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.arrival = Arrival(largest_body)
        self.data_ready = True  # whenever a thread gets it
        self.after_the_answer = 0  # bytes
        seconds, fraction = divmod(LONGEST_SILENCE, 1)
        silence = struct.pack("@ll", int(seconds), int(fraction * 1_000_000))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, silence)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, silence)

    def receive(self) -> bool:
        """Take what has come, without waiting; whether the client is still there. Raises TooMuch."""
        try:
            data = self.sock.recv(_AT_ONCE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.arrival.add(data)
        if self.arrival.waits_to_be_asked:
            self.arrival.was_asked = True
            try:
                util.write_nonblock(self.sock, b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:
                return False
        return bool(data)

    def hand_over(self) -> None:
        """Give the request that is here to gunicorn's parser, as if it had read it itself."""
        if not self.initialized:
            self.init()
            self.parser.unreader = HandedOver()
        self.parser.unreader.unread(self.arrival.take())


class PollingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's worker with threads gives a thread to each new connection, and lets it wait there: for five seconds
    until something comes, and for as long as the client likes after that. Here `keepalived_conns` are clients that have
    sent nothing yet, and `pending_conns` those that are in the middle of it."""

    largest_body = 0

    def __init__(self, *arguments: Any, **further: Any) -> None:
        super().__init__(*arguments, **further)
        self._leaving: deque[Client] = deque()

    # --- in a thread -------------------------------------------------------------

    def handle(self, conn: Any) -> Any:
        conn.hand_over()
        stays = super().handle(conn)
        if stays:
            conn.arrival.begin_again()
        return stays

    def handle_request(self, req: Any, conn: Any) -> Any:
        if not conn.arrival.whole:
            req.force_close()
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """A body that nobody has read is here, so to read it takes no time; one that is not here is not waited for.
        If gunicorn thinks that the request ended elsewhere than we do, it was the last."""
        return bool(
            keepalive
            and conn.arrival.whole
            and super()._keepalive_after(conn, keepalive)
            and not conn.parser.unreader.ran_dry
            and not conn.parser.unreader.buf.getvalue()
        )

    # --- in the main thread ------------------------------------------------------

    def accept(self, listener: Any) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno not in _NOTHING_NEW:
                raise
            return
        self.nr_conns += 1
        self._wait_for(Client(self.largest_body, self.cfg, sock, address, listener.getsockname()))

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """The thread has let go of its client: wait for the next request, or for the client to leave."""
        try:
            stays = not fs.cancelled() and fs.result()
            if stays and not conn.arrival.is_here:
                self._wait_for(conn)
            elif stays:
                self.enqueue_req(conn)
            else:
                self._see_off(conn)
        except TooMuch as too_much:
            self._refuse(conn, too_much.status, too_much.reason, str(too_much))
        except Exception:  # noqa: BLE001 - as gunicorn has it: no client may end the loop that serves all
            self._close(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        super().murder_keepalived(force)
        now = time.monotonic()
        while self._leaving and (force or self._leaving[0].timeout <= now):
            conn = self._leaving.popleft()
            self.poller.unregister(conn.sock)
            self._close(conn)

    def murder_pending(self) -> None:
        now = time.monotonic()
        while self.pending_conns and self.pending_conns[0].timeout <= now:
            conn = self.pending_conns.popleft()
            self.poller.unregister(conn.sock)
            what = f"the request was not complete within {LONGEST_ARRIVAL:.0f} seconds"
            self._refuse(conn, 408, "Request Timeout", what)

    def _wait_for(self, conn: Client) -> None:
        now = time.monotonic()
        if conn.arrival.has_begun:
            conn.timeout = now + LONGEST_ARRIVAL
            self._poll(conn, self.pending_conns)
        else:
            conn.timeout = now + (self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER)
            self._poll(conn, self.keepalived_conns)

    def _poll(self, conn: Client, queue: deque[Client]) -> None:
        conn.sock.setblocking(False)
        queue.append(conn)
        self._register(conn, partial(self._on_readable, conn, queue))

    def _on_readable(self, conn: Client, queue: deque[Client], _: object) -> None:
        try:
            is_there = conn.receive()
        except TooMuch as too_much:
            self._forget(conn, queue)
            self._refuse(conn, too_much.status, too_much.reason, str(too_much))
            return
        if not is_there or conn.arrival.is_here:
            self._forget(conn, queue)
            if is_there:
                self.enqueue_req(conn)
            else:
                self._close(conn)
        elif queue is self.keepalived_conns:  # now that it has begun, its time is running
            self._forget(conn, queue)
            self._wait_for(conn)

    def _refuse(self, conn: Client, status: int, reason: str, message: str) -> None:
        try:
            util.write_error(conn.sock, status, reason, message)  # ours by then, see api_server
        except OSError:
            self._close(conn)
        else:
            self._see_off(conn)

    def _see_off(self, conn: Client) -> None:
        """Let the client take the last answer, and end its side: a connection that is closed on what was not read is
        reset, and the answer lost."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        conn.timeout = time.monotonic() + _LONGEST_FAREWELL
        self._leaving.append(conn)
        self._register(conn, partial(self._on_farewell, conn))

    def _on_farewell(self, conn: Client, _: object) -> None:
        try:
            data = conn.sock.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.after_the_answer += len(data)
        if not data or conn.after_the_answer > _MOST_AFTER_THE_ANSWER:
            self._forget(conn, self._leaving)
            self._close(conn)

    def _register(self, conn: Client, callback: Callable[[object], None]) -> None:
        self.poller.register(conn.sock, selectors.EVENT_READ, callback)

    def _forget(self, conn: Client, queue: deque[Client]) -> None:
        self.poller.unregister(conn.sock)
        queue.remove(conn)

    def _close(self, conn: Client) -> None:
        self.nr_conns -= 1
        conn.close()
