"""How far a client has got with sending a request, so that no thread has to wait for one that is still on its way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LARGEST_HEAD = 32 * 1024
"""Bytes of request line and headers together. What is longer is refused with 431."""

_WRAPPING = 4
"""Chunks may take so many times the largest body, with what is around them."""

_EMPTY_LINE = b"\r\n\r\n"
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})(?:[ \t]*;[^\r\n]*)?")
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)")
_EXPECT = re.compile(rb"\r\nexpect:[^\r\n]*", re.IGNORECASE)


class TooMuch(Exception):
    """More than any request needs. Says which status to answer, and what is too large."""

    def __init__(self, status: int, reason: str, what: str) -> None:
        super().__init__(what)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class Arrival:
    """The requests of one connection, one after another. One `is_here` when it can be answered without waiting.

    It is `whole` when all of it has come. One that is not will be refused for what has: its body is larger than
    `largest_body`, or nobody can tell where it ends. Nothing that comes after such a one can be a request.
    """

    largest_body: int
    is_here: bool = field(default=False, init=False)
    whole: bool = field(default=False, init=False)
    was_asked: bool = field(default=False, init=False)  # for its body, by a `100 Continue`
    _bytes: bytearray = field(default_factory=bytearray, init=False)
    _head: int = field(default=0, init=False)  # its length, once it is complete
    _end: int = field(default=0, init=False)  # of the request; of the chunks that are complete, while more are to come
    _in_chunks: bool = field(default=False, init=False)
    _decoded: int = field(default=0, init=False)
    _expects: bool = field(default=False, init=False)

    @property
    def waits_to_be_asked(self) -> bool:
        """The client has said that it sends its body after a `100 Continue`."""
        return self._expects and not self.was_asked and not self.is_here

    @property
    def has_begun(self) -> bool:
        return bool(self._bytes)

    def add(self, data: bytes) -> None:
        """Raises TooMuch."""
        self._bytes += data
        if not self.is_here:
            self._look()

    def take(self) -> bytes:
        """The bytes of the request that is here, for a server that need not ask for the body any more."""
        end = self._end if self.whole else len(self._bytes)
        head, body = bytes(self._bytes[: self._head]), bytes(self._bytes[self._head : end])
        del self._bytes[:end]
        return (_EXPECT.sub(b"", head) if self._expects else head) + body

    def begin_again(self) -> None:
        """Look at what came after the request that was taken. Raises TooMuch."""
        self.is_here = self.whole = self.was_asked = self._in_chunks = self._expects = False
        self._head = self._end = self._decoded = 0
        if self._bytes:
            self._look()

    def _look(self) -> None:
        if not self._head:
            self._look_for_the_head()
        if self._head and not self.is_here:
            if self._in_chunks:
                self._look_at_chunks()
            elif len(self._bytes) >= self._end:
                self.is_here = self.whole = True

    def _look_for_the_head(self) -> None:
        found = self._bytes.find(_EMPTY_LINE, 1)  # one empty line before a request is no fault
        if max(found, len(self._bytes) if found < 0 else 0) > LARGEST_HEAD:
            what = f"request line and headers are larger than {LARGEST_HEAD} bytes"
            raise TooMuch(431, "Request Header Fields Too Large", what)
        if found < 0:
            self.is_here = b"\n" in self._bytes.replace(b"\r\n", b"")  # no line of it will ever end
            return
        self._head = self._end = found + len(_EMPTY_LINE)
        self._look_at_framing(bytes(self._bytes[: self._head]).lower())

    def _look_at_framing(self, head: bytes) -> None:
        for name, value in _FRAMING.findall(head):
            if name == b"expect":
                self._expects = value == b"100-continue" and b" http/1.0\r\n" not in head
            elif name == b"transfer-encoding":
                self._in_chunks = value == b"chunked"
                self.is_here = not self._in_chunks
            elif value.isdigit() and len(value) < 19 and int(value) <= self.largest_body:
                self._end = self._head + int(value)
            else:
                self.is_here = True
        if self._in_chunks:
            self._end = self._head

    def _look_at_chunks(self) -> None:
        while (line := self._bytes.find(b"\r\n", self._end)) >= 0:
            size = _CHUNK_SIZE.fullmatch(self._bytes, self._end, line)
            if not size:
                self.is_here = True
                return
            length = int(size[1], 16)
            if not length:
                trailer = self._bytes.find(_EMPTY_LINE, line)
                if trailer >= 0:
                    self._end = trailer + len(_EMPTY_LINE)
                    self.is_here = self.whole = True
                break
            arrived = len(self._bytes) - (line + 2)
            if self._decoded + min(length, arrived) > self.largest_body:
                self.is_here = True
                return
            if arrived < length + 2:
                break
            self._decoded += length
            self._end = line + 2 + length + 2
        if len(self._bytes) > self._head + _WRAPPING * self.largest_body and not self.is_here:
            raise TooMuch(413, "Content Too Large", "the chunks of the body are larger than the body may be")
