"""Where each request of a connection ends, decided once and for all: what could be read in two ways is refused.

A request is handed over in one form only, a head with our own `Content-Length` and exactly so many bytes. Whatever the
client has said about the end of it never reaches the server's parser, so there is nothing in which the two could
differ. Each byte is looked at a fixed number of times, however they come: no pattern here can go back (`*+`, `++`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LARGEST_HEAD = 32 * 1024
"""Bytes of request line and headers together. What is longer is refused with 431."""

_CRLF = b"\r\n"
_EMPTY_LINE = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_REQUEST_LINE = re.compile(_TOKEN + rb" [!-~]++ HTTP/1\.[01]")
_HEADER = re.compile(_TOKEN + rb":[\t -~\x80-\xff]*+")
_HEAD = re.compile(rb"%b\r\n(?:%b\r\n)*+\r\n" % (_REQUEST_LINE.pattern, _HEADER.pattern))
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|expect):[ \t]*+([^\r]*+)", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8}+)\r\n")
_LONGEST_CHUNK_SIZE = 8 + len(_CRLF)
_LARGER_THAN_ANY_BODY = 10**15
_SHOWN = 80


class RefusedRequest(Exception):
    """Says which status to answer. Where the next request would begin is unknown, or of no interest any more."""

    def __init__(self, status: int, reason: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.reason = reason


class RequestTooLarge(RefusedRequest):
    """More than any request needs."""


class BadFraming(RefusedRequest):
    """It could be read in two ways, or in none."""

    def __init__(self, why: str, status: int = 400, reason: str = "Bad Request") -> None:
        super().__init__(status, reason, why)


@dataclass(slots=True)
class RequestBuffer:
    """The requests of one connection, one after another. One `is_ready` when all of it has come.

    One that `is_too_large` is ready when its head has come: its body, larger than `largest_body`, is not waited for,
    and nothing that comes after it can be a request.
    """

    largest_body: int
    is_ready: bool = False
    is_too_large: bool = False
    was_asked: bool = False  # for its body, by a `100 Continue`
    _bytes: bytearray = field(default_factory=bytearray)  # which are neither of the head nor decoded
    _seen: int = 0  # of them, and no end of the head among them
    _head: bytes = b""  # once it is complete, without what we say ourselves
    _length: int | None = 0  # of the body; None while it comes in chunks
    _decoded: bytearray = field(default_factory=bytearray)
    _has_body: bool = False
    _expects: bool = False

    @property
    def waits_to_be_asked(self) -> bool:
        """The client has said that it sends its body after a `100 Continue`."""
        return self._expects and not self.was_asked and not self.is_ready

    @property
    def has_begun(self) -> bool:
        return bool(self._bytes or self._head)

    def add(self, data: bytes) -> None:
        """Raises RefusedRequest."""
        self._bytes += data
        if not self.is_ready:
            self._look()

    def take(self) -> bytes:
        """The request that is ready, in the one form. A body that is too large is announced as such, and left out."""
        if self.is_too_large:
            return self._head[:-2] + b"Content-Length: %d\r\n\r\n" % _LARGER_THAN_ANY_BODY
        if not self._has_body:
            return self._head
        body = self._decoded
        if self._length is not None:
            body = self._bytes[: self._length]
            del self._bytes[: self._length]
        return self._head[:-2] + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def begin_again(self) -> None:
        """Look at what came after the request that was taken. Raises RefusedRequest."""
        self.is_ready = self.is_too_large = self.was_asked = self._has_body = self._expects = False
        self._seen = self._length = 0
        self._head = b""
        self._decoded = bytearray()
        if self._bytes:
            self._look()

    def _look(self) -> None:
        if not self._head:
            self._look_for_the_head()
        if self._head and not self.is_ready:
            if self._length is None:
                self._decode_chunks()
            else:
                self.is_ready = len(self._bytes) >= self._length

    def _look_for_the_head(self) -> None:
        found = self._bytes.find(_EMPTY_LINE, max(1, self._seen - 3))  # one empty line before a request is no fault
        end = found + len(_EMPTY_LINE) if found >= 0 else len(self._bytes)
        if end > LARGEST_HEAD:
            why = f"request line and headers are larger than {LARGEST_HEAD} bytes"
            raise RequestTooLarge(431, "Request Header Fields Too Large", why)
        if found < 0:
            if _BARE_LF.search(self._bytes, self._seen):
                raise BadFraming("a line ends with LF, not with CR LF")
            self._seen = end
            return
        head = bytes(self._bytes[:end])
        del self._bytes[:end]
        self._read_head(head.removeprefix(_CRLF))

    def _read_head(self, head: bytes) -> None:
        if not _HEAD.fullmatch(head):
            raise BadFraming(_fault_of(head))
        self._head, *framing = _FRAMING.split(head)
        if framing:
            self._head += b"".join(framing[2::3])
            self._read_framing(framing, is_old=head.find(b" HTTP/1.0\r\n", 0, head.find(_CRLF) + 2) > 0)

    def _read_framing(self, framing: list[bytes], is_old: bool) -> None:
        """Name, value, and what comes behind them, three times over."""
        given = {framing[at].lower(): framing[at + 1].rstrip(b" \t") for at in range(0, len(framing), 3)}
        length, coding, expect = given.get(b"content-length"), given.get(b"transfer-encoding"), given.get(b"expect")
        if 3 * len(given) < len(framing):
            raise BadFraming("Content-Length, Transfer-Encoding and Expect may be given once each")
        if coding is not None and (coding.lower() != b"chunked" or is_old):
            raise BadFraming(f"Transfer-Encoding can only be `chunked`, in HTTP/1.1, not {_shown(coding)}")
        if coding is not None and length is not None:
            raise BadFraming("Content-Length and Transfer-Encoding say in two ways where the body ends")
        if length is not None and not length.isdigit():
            raise BadFraming(f"Content-Length must be a number, not {_shown(length)}")
        if expect is not None and expect.lower() != b"100-continue":
            raise BadFraming(f"only 100-continue can be expected, not {_shown(expect)}", 417, "Expectation Failed")
        self._has_body = length is not None or coding is not None
        self._expects = expect is not None and not is_old
        if coding is not None:
            self._length = None
        elif length is not None:
            self.is_ready = self.is_too_large = len(length) > 18 or int(length) > self.largest_body
            self._length = 0 if self.is_too_large else int(length)

    def _decode_chunks(self) -> None:
        """Chunks are a size, CR LF, so many bytes, CR LF. The last one has none; nothing else is taken."""
        data, at = self._bytes, 0
        while not self.is_ready:
            size = _CHUNK_SIZE.match(data, at)
            if not size:
                begun = bytes(data[at : at + _LONGEST_CHUNK_SIZE])
                if len(begun) == _LONGEST_CHUNK_SIZE or b"\n" in begun:
                    raise BadFraming(f"a chunk begins with its size in hex and nothing else, not with {_shown(begun)}")
                break
            length, begin = int(size[1], 16), size.end()
            if len(self._decoded) + length > self.largest_body:
                self.is_ready = self.is_too_large = True
                return
            end = begin + length
            if len(data) < end + len(_CRLF):
                break
            if data[end : end + len(_CRLF)] != _CRLF:
                raise BadFraming("a chunk ends elsewhere than its size says, or is followed by trailers")
            self._decoded += data[begin:end]
            at = end + len(_CRLF)
            self.is_ready = length == 0
        del data[:at]


def _fault_of(head: bytes) -> str:
    request_line, *headers = head[: -len(_EMPTY_LINE)].split(_CRLF)
    if not _REQUEST_LINE.fullmatch(request_line):
        return f"the request line must be `METHOD /path HTTP/1.1`, not {_shown(request_line)}"
    fault = next(line for line in headers if not _HEADER.fullmatch(line))
    return f"a header must be `Name: value` in one line, without control characters, not {_shown(fault)}"


def _shown(said: bytes) -> str:
    return ascii(said[:_SHOWN].decode("latin-1"))
