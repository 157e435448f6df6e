"""When a request is ready: whatever pieces it comes in, however it is framed, and at what cost."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.entrypoints.http import framing
from allocation.entrypoints.http.framing import (
    LARGEST_HEAD,
    BadFraming,
    RefusedRequest,
    RequestBuffer,
    RequestTooLarge,
)

LARGEST = 1000
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /allocate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
CHUNKED = b"POST /allocate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(body: bytes) -> bytes:
    return POST % (len(body), body)


def in_chunks(pieces: list[bytes]) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


def with_all_of(data: bytes, largest: int = LARGEST) -> RequestBuffer:
    buffer = RequestBuffer(largest)
    buffer.add(data)
    return buffer


bodies = st.binary(max_size=200)
one_body = bodies.map(lambda body: (post(body), post(body)))
several_pieces = st.lists(bodies, max_size=4).map(lambda pieces: (in_chunks(pieces), post(b"".join(pieces))))
requests = st.lists(st.just((GET, GET)) | one_body | several_pieces, min_size=1, max_size=4)


@given(requests, st.data())
def test_requests_come_out_in_one_form_however_they_are_cut(
    requests: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(sent for sent, _ in requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    buffer, taken = RequestBuffer(LARGEST), list[bytes]()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer.add(stream[begin:end])
        while buffer.is_ready:
            taken.append(buffer.take())
            buffer.begin_again()

    assert taken == [one_form for _, one_form in requests]
    assert not buffer.has_begun


@given(st.sampled_from([GET, post(b"x" * 30), in_chunks([b"abc", b"defg"])]), st.data())
def test_a_request_is_not_ready_before_its_last_byte(request: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(request) - 1))
    buffer = with_all_of(request[:cut])

    assert buffer.has_begun
    assert not buffer.is_ready

    buffer.add(request[cut:])

    assert buffer.is_ready


@given(st.binary(max_size=400))
def test_nothing_whatever_makes_it_fail(data: bytes) -> None:
    for head in (b"", b"GET / HTTP/1.1\r\n", CHUNKED):
        with suppress(RefusedRequest):
            buffer = with_all_of(head + data)
            assert not buffer.is_ready or buffer.take()


def test_one_empty_line_in_front_is_no_fault() -> None:
    assert with_all_of(b"\r\n" + GET).take() == GET


# --- too large -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        POST % (LARGEST + 1, b""),
        POST.replace(b"%d", b"9" * 5000) % b"",
        CHUNKED + b"ffff\r\n",
        CHUNKED + b"3e8\r\n" + b"." * LARGEST + b"\r\n1\r\n",
    ],
    ids=["by a byte", "by far", "in a chunk", "in chunks"],
)
def test_a_body_that_is_announced_as_too_large_is_not_waited_for(request_: bytes) -> None:
    buffer = with_all_of(request_)

    assert buffer.is_ready
    assert buffer.is_too_large
    head, _, body = buffer.take().partition(b"\r\n\r\n")
    assert int(head.rpartition(b"Content-Length: ")[2]) > LARGEST + 1, "whoever reads one byte more would find no end"
    assert not body


def test_a_body_may_be_as_large_as_was_said() -> None:
    for request in (post(b"." * LARGEST), in_chunks([b"." * 600, b"." * 400])):
        buffer = with_all_of(request)
        assert buffer.is_ready
        assert not buffer.is_too_large


def test_a_head_has_a_largest_size() -> None:
    with_all_of(b"GET / HTTP/1.1\r\nX: " + b"x" * (LARGEST_HEAD - 40) + b"\r\n\r\n")

    for end in (b"", b"\r\n\r\n"):
        with pytest.raises(RequestTooLarge, match="larger than 32768 bytes") as refused:
            with_all_of(b"GET / HTTP/1.1\r\nX: " + b"x" * LARGEST_HEAD + end)
        assert refused.value.status == 431


# --- read in two ways, or in none ------------------------------------------------------

CHUNK = "a chunk"
ONCE = "once each"


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\n", "LF, not with CR LF"),
        (b"GET / HTTP/1.1\r\nHost: x\n", "LF, not with CR LF"),
        (b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", "a header must be"),
        (b"GET / HTTP/1.1\r\nX: y\r\r\nExpect: z\nAuthorization: K\r\nExpect: 100-continue\r\n\r\n", "a header"),
        (b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", "a header must be .*, not 'X: .x00'"),
        (b"GET / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n", "not ' folded'"),
        (b"GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n", "a header must be"),
        (b"GET / HTTP/1.1\r\n: 5\r\n\r\n", "a header must be"),
        (b"GET / HTTP/1.1\r\nContent-Length\r\n\r\n", "a header must be"),
        (b"GET  / HTTP/1.1\r\n\r\n", "the request line must be `METHOD /path HTTP/1.1`, not 'GET  / HTTP/1.1'"),
        (b"GET / HTTP/2.0\r\n\r\n", "the request line"),
        (b"GET /\r\n\r\n", "the request line"),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", "the request line"),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", "must be a number, not 'many'"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "must be a number"),
        (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", "must be a number"),
        (b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", "must be a number"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", "must be a number"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", ONCE),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", ONCE),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "in two ways"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not 'gzip, chunked'"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", "can only be `chunked`"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "in HTTP/1.1"),
        (CHUNKED + b"zz\r\n", "with its size in hex and nothing else, not with 'zz"),
        (CHUNKED + b"+5\r\nhello\r\n", CHUNK),
        (CHUNKED + b"0x5\r\nhello\r\n", CHUNK),
        (CHUNKED + b"5 \r\nhello\r\n", CHUNK),
        (CHUNKED + b"5;name=value\r\nhello\r\n", CHUNK),
        (CHUNKED + b"5\nhello\r\n", CHUNK),
        (CHUNKED + b"000000005\r\nhello\r\n", CHUNK),
        (CHUNKED + b"1" * 300, CHUNK),
        (CHUNKED + b"5\r\nhello!\r\n", "elsewhere than its size says"),
        (CHUNKED + b"0\r\nChecksum: 1\r\n\r\n", "trailers"),
    ],
)
def test_what_could_be_read_in_two_ways_or_in_none_is_refused(head: bytes, why: str) -> None:
    with pytest.raises(BadFraming, match=why) as refused:
        with_all_of(head)

    assert refused.value.status == 400


def test_a_refusal_does_not_repeat_all_that_was_sent() -> None:
    with pytest.raises(BadFraming) as refused:
        with_all_of(b"GET / HTTP/1.1\r\nX " + b"x" * 30_000 + b"\r\n\r\n")

    assert len(str(refused.value)) < 300


def test_what_looks_like_framing_and_is_in_another_header_is_none() -> None:
    head = b"GET / HTTP/1.1\r\nX: Content-Length: 5\r\nX-Content-Length: 5\r\nX: http/1.0\r\n\r\n"

    assert with_all_of(head).take() == head


# --- 100 Continue ----------------------------------------------------------------------


def test_a_client_that_wants_to_be_asked_for_its_body_is_asked_once() -> None:
    head, body = post(b"12345").split(b"\r\n\r\n")
    buffer = with_all_of(head + b"\r\nExpect: 100-Continue\r\nX: http/1.0\r\n\r\n")
    assert buffer.waits_to_be_asked

    buffer.was_asked = True
    assert not buffer.waits_to_be_asked
    buffer.add(body)

    assert b"Expect" not in buffer.take(), "nor is it asked by the server again"


def test_a_client_whose_body_is_here_or_too_large_or_who_can_not_wait_is_not_asked_for_it() -> None:
    for body, length in ((b"12345", 5), (b"", LARGEST + 1)):
        request = POST.replace(b"Host: x", b"Expect: 100-continue") % (length, body)
        assert not with_all_of(request).waits_to_be_asked
    old = POST.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nExpect: 100-continue\r\n") % (5, b"")
    assert not with_all_of(old).waits_to_be_asked


def test_whoever_expects_something_else_is_told_that_it_can_not_be() -> None:
    with pytest.raises(BadFraming, match="only 100-continue can be expected, not 'magic'") as refused:
        with_all_of(b"GET / HTTP/1.1\r\nExpect: magic\r\n\r\n")

    assert refused.value.status == 417


# --- what it costs ---------------------------------------------------------------------


class Watched(bytearray):
    """Counts the bytes that are looked at or moved."""

    seen = 0

    def find(self, what: Any, begin: Any = 0, *end: Any) -> int:
        Watched.seen += len(self) - begin
        return super().find(what, begin, *end)

    def __getitem__(self, what: Any) -> Any:
        Watched.seen += len(range(*what.indices(len(self))))
        return super().__getitem__(what)

    def __delitem__(self, what: Any) -> None:
        gone = len(range(*what.indices(len(self))))
        Watched.seen += len(self) - gone if gone else 0
        super().__delitem__(what)


class WatchedPattern:
    """So does this, from where the pattern begins to where it ends. A pattern that can't go back looks at each once."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def match(self, data: bytes, begin: int = 0) -> re.Match[bytes] | None:
        Watched.seen += 10
        return self._pattern.match(data, begin)

    def fullmatch(self, data: bytes) -> re.Match[bytes] | None:
        Watched.seen += len(data)
        return self._pattern.fullmatch(data)

    def search(self, data: bytes, begin: int = 0) -> re.Match[bytes] | None:
        Watched.seen += len(data) - begin
        return self._pattern.search(data, begin)

    def split(self, data: bytes) -> list[bytes | Any]:
        Watched.seen += len(data)
        return self._pattern.split(data)


PATTERNS = {name: value for name, value in vars(framing).items() if isinstance(value, re.Pattern)}


def looked_at(monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]) -> int:
    """How many bytes, for a request that comes in these pieces."""
    Watched.seen = 0
    with monkeypatch.context() as watching:
        for name, pattern in PATTERNS.items():
            watching.setattr(framing, name, WatchedPattern(pattern))
        buffer = RequestBuffer(64 * 1024, _bytes=Watched())
        for piece in pieces:
            try:
                buffer.add(piece)
            except RefusedRequest:
                break
    return Watched.seen


HOSTILE = {
    "spaces in a length": b"GET / HTTP/1.1\r\nContent-Length:" + b" " * 30_000 + b"\rx\r\n\r\n",
    "spaces that end well": b"GET / HTTP/1.1\r\nTransfer-Encoding:" + b" \t" * 15_000 + b"chunked\r\n\r\n",
    "one long line": b"GET /" + b"a" * 32_000 + b" HTTP/1.1\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 8_000 + b"\r\n",
    "many lengths": b"GET / HTTP/1.1\r\n" + b"Expect:\r\n" * 3_000 + b"\r\n",
    "carriage returns": b"\r" * 32_000,
    "a long chunk size": CHUNKED + b"a" * 64_000,
    "small chunks": CHUNKED + b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n",
    "zeros": CHUNKED + b"00000001\r\na\r\n" * 20_000 + b"0\r\n\r\n",
    "one chunk": CHUNKED + b"ffff\r\n" + b"a" * 65_535 + b"\r\n0\r\n\r\n",
    "a trailer": CHUNKED + b"0\r\n" + b"a" * 64_000,
    "a body": POST % (64_000, b"a" * 64_000),
}


@pytest.mark.parametrize("size", [1, 7, 1_460, 65_536])
@pytest.mark.parametrize("kind", HOSTILE)
def test_each_byte_is_looked_at_a_few_times_whatever_comes_in_whatever_pieces(
    monkeypatch: pytest.MonkeyPatch, kind: str, size: int
) -> None:
    request = HOSTILE[kind] if size > 1 else HOSTILE[kind][:8_000]
    pieces = [request[at : at + size] for at in range(0, len(request), size)]

    assert looked_at(monkeypatch, pieces) <= 30 * len(request)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_can_go_back(name: str) -> None:
    """A quantifier that may give back what it took can be made to try all ways of doing so, with a few kilobytes."""
    pattern = PATTERNS[name].pattern.decode("latin-1")
    outside_classes = re.sub(r"\[(?:\\.|[^\]])*\]", "x", re.sub(r"\\[^\[\]]", "x", pattern))
    quantifiers = re.findall(r"(?<!\()(?:[*+?]|\{\d+,\d*\})\+?", outside_classes)

    assert all(len(quantifier) > 1 and quantifier.endswith("+") for quantifier in quantifiers), pattern
