"""Clients are waited for in one place, by the worker's poller: a thread is given a request that is ready, and leaves
the answer to be taken. Who is too slow in sending or in taking is cut off, and holds no thread until then.
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http.unreader import Unreader
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from allocation.entrypoints.http.client_socket import LONGEST_SILENCE, ClientSocket
from allocation.entrypoints.http.framing import RefusedRequest, RequestBuffer
from allocation.entrypoints.http.rates import Rates

log = logging.getLogger(__name__)

LONGEST_ARRIVAL = 5.0
"""Seconds from the first byte of a request to its last. A client that needs more is answered 408."""

LEAST_TAKEN = 160 * 1024
"""Bytes of an answer that a client has to take in each `LONGEST_SILENCE`, or the rest of it. Else it is cut off."""

_LONGEST_FAREWELL = 2.0
_MOST_AFTER_THE_ANSWER = 16 * 1024 * 1024
_AT_ONCE = 64 * 1024
_NOBODY_THERE = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED)
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_UNTIL_THERE_IS_ROOM = 0.1  # seconds; the listener stays readable, and to look at once would keep the loop busy


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
    """A connection: how far its next request has come, and how much of the last answer was taken."""

    sock: ClientSocket

    def __init__(self, largest_body: int, cfg: Any, sock: socket.socket, *addresses: Any) -> None:
        super().__init__(cfg, ClientSocket(sock), *addresses)
        self.buffer = RequestBuffer(largest_body)
        self.data_ready = True  # whenever a thread gets it
        self.stays = True  # after the answer
        self.after_the_answer = 0  # bytes

    def receive(self) -> bool:
        """Take what has come, without waiting; whether the client is still there. Raises RefusedRequest."""
        try:
            data = self.sock.recv(_AT_ONCE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.buffer.add(data)
        return bool(data) and self.ask_for_the_body()

    def ask_for_the_body(self) -> bool:
        """If the client waits for that; whether it is still there."""
        if self.buffer.waits_to_be_asked:
            self.buffer.was_asked = True
            try:
                self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:
                return False
        return not self.sock.is_behind

    def hand_over(self) -> None:
        """Give the request that is ready to gunicorn's parser, as if it had read it itself."""
        if not self.initialized:
            self.init()
            self.parser.unreader = HandedOver()
        self.parser.unreader.unread(self.buffer.take())


class PollingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's worker with threads gives a thread to each new connection, and lets it wait there: for five seconds
    until something comes, and for as long as the client likes after that. Here `keepalived_conns` are clients that have
    sent nothing yet, and `pending_conns` those that are in the middle of it; `_behind` have not taken all of an answer,
    and `_leaving` have."""

    largest_body = 0

    def __init__(self, *arguments: Any, **further: Any) -> None:
        super().__init__(*arguments, **further)
        self._behind: deque[Client] = deque()
        self._leaving: deque[Client] = deque()
        self._accepts_from = 0.0
        self._said = Rates()

    # --- in a thread -------------------------------------------------------------

    def handle(self, conn: Any) -> Any:
        conn.hand_over()
        stays = super().handle(conn)
        if stays:
            conn.buffer.begin_again()
        return stays

    def handle_request(self, req: Any, conn: Any) -> Any:
        if conn.buffer.is_too_large:
            req.force_close()
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """A body that nobody has read is here, so to read it takes no time; one that is too large is not waited for.
        If gunicorn thinks that the request ended elsewhere than we do, it was the last."""
        return bool(
            keepalive
            and not conn.buffer.is_too_large
            and conn.parser.finish_body()
            and not conn.parser.unreader.ran_dry
            and not conn.parser.unreader.buf.getvalue()
        )

    # --- in the main thread ------------------------------------------------------

    def accept(self, listener: Any) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._accepts_from = time.monotonic() + _UNTIL_THERE_IS_ROOM
                self.set_accept_enabled(False)
                if not self._said.wait("no room", per_second=1):
                    log.warning("no room for another connection", extra={"error": str(error)})
            elif error.errno not in _NOBODY_THERE:
                raise
            return
        self.nr_conns += 1
        self._wait_for(Client(self.largest_body, self.cfg, sock, address, listener.getsockname()))

    def set_accept_enabled(self, enabled: bool) -> None:
        if not enabled or time.monotonic() >= self._accepts_from:
            super().set_accept_enabled(enabled)

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """The thread has let go of its client."""
        try:
            conn.stays = not fs.cancelled() and fs.result()
        except RefusedRequest as refused:
            self._refuse(conn, refused)
        except Exception:  # noqa: BLE001 - as gunicorn has it: no client may end the loop that serves all
            self._close(conn)
        else:
            self._go_on(conn)

    def murder_keepalived(self, force: bool = False) -> None:
        super().murder_keepalived(force)
        for conn in self._due(self._leaving, force):
            self._close(conn)
        for conn in self._due(self._behind, force):
            if conn.sock.taken_late >= LEAST_TAKEN and not force:
                self._wait_until_taken(conn)
            else:
                self._close(conn)

    def murder_pending(self) -> None:
        why = f"the request was not complete within {LONGEST_ARRIVAL:.0f} seconds"
        for conn in self._due(self.pending_conns):
            self._refuse(conn, RefusedRequest(408, "Request Timeout", why))

    def _due(self, queue: deque[Client], all_of_them: bool = False) -> Iterator[Client]:
        """Those whose time is over, which are no longer waited for."""
        now = time.monotonic()
        while queue and (all_of_them or queue[0].timeout <= now):
            conn = queue[0]
            self._forget(conn, queue)
            yield conn

    def _go_on(self, conn: Client) -> None:
        """With what comes after a request: the rest of its answer, the next request, or the end."""
        if conn.sock.is_behind:
            self._wait_until_taken(conn)
        elif not conn.stays:
            self._see_off(conn)
        elif conn.buffer.is_ready:
            self.enqueue_req(conn)
        else:
            self._wait_for(conn)

    def _wait_until_taken(self, conn: Client) -> None:
        conn.sock.taken_late = 0
        conn.timeout = time.monotonic() + LONGEST_SILENCE
        conn.sock.setblocking(False)
        self._behind.append(conn)
        self._register(conn, partial(self._on_writable, conn), selectors.EVENT_WRITE)

    def _on_writable(self, conn: Client, _: object) -> None:
        try:
            conn.sock.send_more()
        except OSError:
            self._forget(conn, self._behind)
            self._close(conn)
            return
        if not conn.sock.is_behind:
            self._forget(conn, self._behind)
            self._go_on(conn)

    def _wait_for(self, conn: Client) -> None:
        now = time.monotonic()
        if not conn.ask_for_the_body():
            self._close(conn)
        elif conn.buffer.has_begun:
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
        except RefusedRequest as refused:
            self._forget(conn, queue)
            self._refuse(conn, refused)
            return
        if not is_there or conn.buffer.is_ready:
            self._forget(conn, queue)
            if is_there:
                self.enqueue_req(conn)
            else:
                self._close(conn)
        elif queue is self.keepalived_conns:  # now that it has begun, its time is running
            self._forget(conn, queue)
            self._wait_for(conn)

    def _refuse(self, conn: Client, refused: RefusedRequest) -> None:
        conn.stays = False
        try:
            util.write_error(conn.sock, refused.status, refused.reason, str(refused))  # ours by then, see server.py
        except OSError:
            self._close(conn)
        else:
            self._go_on(conn)

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

    def _register(self, conn: Client, callback: Callable[[object], None], event: int = selectors.EVENT_READ) -> None:
        self.poller.register(conn.sock, event, callback)

    def _forget(self, conn: Client, queue: deque[Client]) -> None:
        self.poller.unregister(conn.sock)
        queue.remove(conn)

    def _close(self, conn: Client) -> None:
        self.nr_conns -= 1
        conn.close()
