"""Where a request ends: we say so, and gunicorn's parser does. Were they to differ, a body could become a request."""

from __future__ import annotations

from functools import cache
from unittest.mock import Mock, patch

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import ThreadWorker
from hypothesis import given
from hypothesis import strategies as st

from allocation.entrypoints.http.client_poller import HandedOver, PollingWorker
from allocation.entrypoints.http.framing import Arrival

LARGEST = 1000
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: smuggled\r\n\r\n"

sizes = st.integers(0, 40).map("{:x}".format)
zeros = st.integers(0, 16).map("0".__mul__)
extensions = st.just("") | st.sampled_from(["", ";a=b", " ; a=b", " ", "\t", ";", " x", "x", "_1", "\r", '; a="b;c"'])
lines = st.builds("{}{}{}{}".format, st.just("") | st.sampled_from(["+", "0x", "-", " "]), zeros, sizes, extensions)


@cache
def configuration() -> Config:
    return Config()


def read_by_gunicorn(request: bytes) -> tuple[HandedOver, bool]:
    """What it has been read from, body and all, and whether gunicorn took it."""
    unreader = HandedOver()
    unreader.unread(request)
    parser = RequestParser(configuration(), iter(()), ("127.0.0.1", 1))
    parser.unreader = unreader
    message = next(parser)
    try:
        while message.body.read(100):
            pass
    except (ParseException, OSError):  # which ends the connection
        return unreader, False
    return unreader, True


@given(st.lists(st.tuples(lines, st.binary(max_size=40)), min_size=1, max_size=3), st.booleans())
def test_what_is_whole_to_us_is_whole_to_gunicorn_or_refused(chunks: list[tuple[str, bytes]], ends: bool) -> None:
    body = b"".join(line.encode() + b"\r\n" + data + b"\r\n" for line, data in chunks)
    arrival = Arrival(LARGEST)
    arrival.add(CHUNKED + body + (b"0\r\n\r\n" if ends else b"") + NEXT)
    if arrival.whole:
        read, was_taken = read_by_gunicorn(arrival.take())

        assert not read.ran_dry
        assert not (was_taken and read.buf.getvalue())


@pytest.mark.parametrize("zeros", ["", "0", "00000000", "0000000000000"])
def test_leading_zeros_do_not_hide_how_long_a_chunk_is(zeros: str) -> None:
    arrival = Arrival(LARGEST)

    arrival.add(CHUNKED + f"{zeros}F\r\n\r\n".encode() + NEXT)
    assert not arrival.whole, "fifteen bytes were announced, and what looks like a request is among them"

    begun = CHUNKED + f"{zeros}5\r\nhello\r\n0\r\n\r\n".encode()
    arrival = Arrival(LARGEST)
    arrival.add(begun)
    assert arrival.whole
    assert arrival.take() == begun


def test_a_request_that_gunicorn_thinks_is_longer_is_the_last_of_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ThreadWorker, "_keepalive_after", lambda *_: True)
    with patch("gunicorn.workers.base.WorkerTmp"):
        worker = PollingWorker(1, 1, [], Mock(), 1, Mock(worker_connections=10, threads=1, max_requests=0), Mock())
    unreader = HandedOver()
    conn = Mock(arrival=Mock(whole=True), parser=Mock(unreader=unreader))
    assert worker._keepalive_after(conn, True)

    assert unreader.read() == b"", "the socket is nobody's business but the poller's"

    assert not worker._keepalive_after(conn, True)
