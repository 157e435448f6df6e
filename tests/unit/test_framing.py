"""Where a request ends: we say so, and gunicorn's parser does. Were they to differ, a body could become a request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from unittest.mock import Mock, patch

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import given
from hypothesis import strategies as st

from allocation.entrypoints.http.framing import BadFraming, RefusedRequest, RequestBuffer
from allocation.entrypoints.http.polling_worker import HandedOver, PollingWorker

LARGEST = 1000
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: smuggled\r\n\r\n"
FRAMING = {"CONTENT-LENGTH", "TRANSFER-ENCODING", "EXPECT"}


@dataclass(frozen=True, slots=True)
class Read:
    """A request as gunicorn has read it."""

    method: str
    uri: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@cache
def configuration() -> Config:
    return Config()


def read_by_gunicorn(stream: bytes) -> Iterator[Read]:
    """As many requests as it finds before one that it refuses."""
    parser = RequestParser(configuration(), iter([stream]), ("127.0.0.1", 1))
    try:
        for message in parser:
            headers = tuple((name, value) for name, value in message.headers if name not in FRAMING)
            yield Read(message.method, message.uri, headers, message.body.read())
    except (ParseException, OSError):  # which ends the connection
        return


def read_by_us(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    """As many requests as we hand over before one that we refuse, or that is too large."""
    buffer = RequestBuffer(LARGEST)
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            buffer.add(stream[begin:end])
            while buffer.is_ready and not buffer.is_too_large:
                yield buffer.take()
                buffer.begin_again()
    except RefusedRequest:
        return


odd = st.sampled_from(["\r", "\n", "\r\n", "\t", " ", "\0", "\x7f", "\xa0", "\xff", ":", ";", ",", "0", "+", "_", "x"])
names = st.sampled_from(
    [
        "Content-Length",
        "Transfer-Encoding",
        "Expect",
        "content-LENGTH",
        "TRANSFER-encoding",
        "Content_Length",
        "Host",
        "X",
    ]
)
lengths = st.sampled_from(["", "0", "5", "05", "+5", "-5", "5,5", "0x5", "5 5", "1000", "1001", "9" * 30, "\u00b2"])
codings = st.sampled_from(["chunked", "CHUNKED", "chunked, chunked", "gzip, chunked", "identity", "chunked;q=1"])
values = lengths | codings | st.sampled_from(["100-continue", "x\r\n y"])
spaces = st.sampled_from(["", " ", "\t", "  ", " \r", "\r\n "])
headers = st.builds("{}{}:{}{}{}\r\n".format, names, st.just("") | st.just("") | spaces, spaces, values, spaces)
versions = st.sampled_from(["1.1", "1.1", "1.1", "1.0", "0.9", "1.2", "2.0", "1.10"])
request_lines = st.builds(
    "{}{} {} HTTP/{}\r\n".format,
    st.sampled_from(["", "", "\r\n"]),
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(["/", "/a", "*", ""]),
    versions,
)
sizes = st.integers(0, 40).map("{:x}".format) | st.sampled_from(["0", "5", "F"])
extensions = st.sampled_from(["", "", "", ";a=b", " ; a=b", " ", "\t", ";", " x", "x", "_1", "\r", '; a="b;c"', "\n"])
zeros = st.sampled_from(["", "", "0", "0000000", "00000000", "0" * 16])
chunks = st.builds(
    "{}{}{}{}\r\n{}{}".format,
    st.sampled_from(["", "", "", "+", "0x", "-", " "]),
    zeros,
    sizes,
    extensions,
    st.text("ab\r\n0", max_size=20),
    st.sampled_from(["\r\n", "\r\n", "\n", "", "\r\n\r\n"]),
)
good_chunks = st.binary(min_size=1, max_size=20).map(lambda data: f"{len(data):x}\r\n{data.decode('latin-1')}\r\n")
bodies = st.text("ab\r\n0", max_size=20) | st.lists(good_chunks | chunks, max_size=3).map("".join)
ends = st.sampled_from(["", "0\r\n\r\n", "0\r\n\r\n", "0\r\n\r\n", "0\r\nX: y\r\n\r\n", "00\r\n\r\n"])
requests = st.builds("{}{}\r\n{}{}".format, request_lines, st.lists(headers, max_size=3).map("".join), bodies, ends)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Requests, the odd character anywhere in them, and behind them what must not be read as part of another."""
    stream = "".join(draw(st.lists(requests | good_requests, min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(stream)))
        stream = stream[:at] + draw(odd) + stream[at + draw(st.integers(0, 1)) :]
    return stream.encode("latin-1") + NEXT


in_chunks = st.lists(good_chunks, max_size=3).map(lambda chunks: CHUNKED.decode() + "".join(chunks) + "0\r\n\r\n")
in_one = st.text("ab\r\n", max_size=20).map(
    lambda body: f"POST /a HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}"
)
good_requests = in_chunks | in_one


@given(streams(), st.data())
def test_what_we_hand_over_gunicorn_would_have_read_itself_or_refuses(stream: bytes, data: st.DataObject) -> None:
    """Whatever bytes come, in whatever cuts: method, path, headers and body are those that gunicorn finds in the same
    stream without us; and of what we hand over it leaves nothing, and wants no more."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    alone = read_by_gunicorn(stream)
    for handed in read_by_us(stream, cuts):
        unreader = HandedOver()
        unreader.unread(handed)
        parser = RequestParser(configuration(), iter(()), ("127.0.0.1", 1))
        parser.unreader = unreader
        found = next(alone, None)
        try:
            message = next(parser)
        except ParseException:
            return
        headers = tuple((name, value) for name, value in message.headers if name not in FRAMING)

        assert Read(message.method, message.uri, headers, message.body.read()) == found
        assert not unreader.ran_dry
        assert not unreader.buf.getvalue()
        if message.should_close():
            return


@given(st.lists(good_requests, min_size=1, max_size=3))
def test_what_is_as_it_should_be_is_handed_over(requests: list[str]) -> None:
    stream = "".join(requests).encode("latin-1")

    assert len([*read_by_us(stream, [])]) == len(requests) == len([*read_by_gunicorn(stream)])


@pytest.mark.parametrize("zeros", ["", "0", "0000000", "0000000000000"])
def test_leading_zeros_do_not_hide_how_long_a_chunk_is(zeros: str) -> None:
    for stream, taken in (
        (CHUNKED + f"{zeros}F\r\n\r\n".encode() + NEXT, 0),
        (CHUNKED + f"{zeros}5\r\nhello\r\n0\r\n\r\n".encode() + NEXT, 2),
    ):
        buffer = RequestBuffer(LARGEST)
        if len(zeros) < 8:
            assert len([*read_by_us(stream, [])]) == taken, "what looks like a request is among the bytes announced"
        else:
            with pytest.raises(BadFraming):
                buffer.add(stream)


def idle_worker() -> PollingWorker:
    with patch("gunicorn.workers.base.WorkerTmp"):
        return PollingWorker(1, 1, [], Mock(), 1, Mock(worker_connections=10, threads=1, max_requests=0), Mock())


def after_a_body_of(length: int) -> Mock:
    """A connection whose request has been answered, though nobody has read its body."""
    parser = RequestParser(configuration(), iter(()), ("127.0.0.1", 1))
    parser.unreader = HandedOver()
    parser.unreader.unread(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length)
    next(parser)
    return Mock(buffer=Mock(is_too_large=False), parser=parser)


@pytest.mark.parametrize("length", [0, 1, 65_535, 65_536])
def test_a_body_that_nobody_has_read_does_not_end_a_connection_that_was_said_to_stay(length: int) -> None:
    assert idle_worker()._keepalive_after(after_a_body_of(length), True)


def test_a_request_that_gunicorn_thinks_is_longer_is_the_last_of_its_connection() -> None:
    conn = after_a_body_of(5)

    assert conn.parser.unreader.read() == b"xxxxx"
    assert conn.parser.unreader.read() == b"", "the socket is nobody's business but the poller's"

    assert not idle_worker()._keepalive_after(conn, True)


def test_a_request_that_gunicorn_thinks_is_shorter_is_the_last_too() -> None:
    conn = after_a_body_of(5)
    conn.parser.mesg.body.reader.length = 3

    assert not idle_worker()._keepalive_after(conn, True)


def test_no_thread_waits_for_a_body_that_is_too_large() -> None:
    conn = Mock(buffer=Mock(is_too_large=True))

    assert not idle_worker()._keepalive_after(conn, True)
    conn.parser.finish_body.assert_not_called()
