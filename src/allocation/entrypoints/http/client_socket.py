"""A client's socket to which nobody waits to write: what the client does not take at once is kept, and sent later."""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LONGEST_SILENCE = 5.0
"""Seconds for which a client may stay behind with what it is told."""


class ClientSocket(socket.socket):
    """One thread at a time may use it."""

    __slots__ = ("_behind_since", "_unsent", "taken_late")

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.taken_late = 0
        """Bytes, of those that were not taken at once."""
        self._unsent = deque[memoryview]()
        self._behind_since = 0.0

    @property
    def is_behind(self) -> bool:
        """There is more to send."""
        return bool(self._unsent)

    def sendall(self, data: ReadableBuffer, _: int = 0, /) -> None:
        """Raises OSError when the client has gone, or has stayed behind for too long: it would be a stream without end.
        What is kept is what was given, and no copy."""
        if self._unsent:
            if time.monotonic() - self._behind_since > LONGEST_SILENCE:
                raise BrokenPipeError(errno.EPIPE, "the client takes no more of its answer")
            self._unsent.append(memoryview(data))
        else:
            unsent = memoryview(data)[self._send(data) :]
            if unsent:
                self._unsent.append(unsent)
                self._behind_since = time.monotonic()

    def send_more(self) -> None:
        """As much as the client takes now. Raises OSError when it has gone."""
        while self._unsent and (sent := self._send(self._unsent[0])):
            self.taken_late += sent
            self._unsent[0] = self._unsent[0][sent:]
            if not self._unsent[0]:
                self._unsent.popleft()

    def _send(self, data: ReadableBuffer) -> int:
        try:
            return self.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
