"""When a request is here: whatever pieces it comes in, and however it is framed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.entrypoints.http.framing import LARGEST_HEAD, Arrival, TooMuch

LARGEST = 1000
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /allocate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
CHUNKED = b"POST /allocate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(body: bytes) -> bytes:
    return POST % (len(body), body)


def in_chunks(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
    return CHUNKED + chunks + b"0\r\n" + trailer + b"\r\n"


def arrived(data: bytes) -> Arrival:
    arrival = Arrival(LARGEST)
    arrival.add(data)
    return arrival


bodies = st.binary(max_size=200)
requests = st.lists(
    st.just(GET) | bodies.map(post) | st.lists(bodies, max_size=4).map(in_chunks), min_size=1, max_size=4
)


@given(requests, st.data())
def test_requests_come_out_as_they_went_in_however_they_are_cut(sent: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    arrival, taken = Arrival(LARGEST), list[bytes]()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        arrival.add(stream[begin:end])
        while arrival.is_here:
            assert arrival.whole
            taken.append(arrival.take())
            arrival.begin_again()

    assert taken == sent
    assert not arrival.has_begun


@given(st.sampled_from([GET, post(b"x" * 30), in_chunks([b"abc", b"defg"], b"Checksum: 1\r\n")]), st.data())
def test_a_request_is_not_here_before_its_last_byte(request: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(request) - 1))
    arrival = arrived(request[:cut])

    assert arrival.has_begun
    assert not arrival.is_here

    arrival.add(request[cut:])

    assert arrival.whole


@given(st.binary(max_size=400))
def test_nothing_whatever_makes_it_fail(data: bytes) -> None:
    for head in (b"", CHUNKED):
        arrival = arrived(head + data)
        if arrival.is_here:
            assert arrival.take()


def test_a_body_that_is_announced_as_too_large_is_not_waited_for() -> None:
    arrival = arrived(POST % (LARGEST + 1, b""))

    assert arrival.is_here
    assert not arrival.whole


def test_chunks_that_become_too_large_are_not_waited_for_once_enough_has_come_to_say_so() -> None:
    arrival = arrived(CHUNKED + b"ffff\r\n" + b"." * LARGEST)
    assert not arrival.is_here, "what is only announced might be waited for by whoever reads it"

    arrival.add(b".")

    assert arrival.is_here
    assert not arrival.whole


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        CHUNKED + b"zz\r\n",
    ],
)
def test_what_nobody_can_read_is_not_waited_for_either(request_: bytes) -> None:
    arrival = arrived(request_)

    assert arrival.is_here
    assert not arrival.whole
    assert arrival.take() == request_


def test_a_head_has_a_largest_size() -> None:
    arrived(b"GET / HTTP/1.1\r\nX: " + b"x" * (LARGEST_HEAD - 40) + b"\r\n\r\n")

    for end in (b"", b"\r\n\r\n"):
        with pytest.raises(TooMuch, match="larger than 32768 bytes") as refused:
            arrived(b"GET / HTTP/1.1\r\nX: " + b"x" * LARGEST_HEAD + end)
        assert refused.value.status == 431


def test_chunks_with_hardly_anything_in_them_have_one_too() -> None:
    with pytest.raises(TooMuch) as refused:
        arrived(CHUNKED + b"1;name=value\r\nx\r\n" * 400)

    assert refused.value.status == 413


def test_a_client_that_wants_to_be_asked_for_its_body_is_asked_once() -> None:
    head, body = post(b"12345").split(b"\r\n\r\n")
    arrival = arrived(head + b"\r\nExpect: 100-Continue\r\n\r\n")
    assert arrival.waits_to_be_asked

    arrival.was_asked = True
    assert not arrival.waits_to_be_asked
    arrival.add(body)

    assert arrival.take() == post(b"12345"), "nor is it asked by the server again"


def test_a_client_whose_body_is_here_or_too_large_is_not_asked_for_it() -> None:
    for body, length in ((b"12345", 5), (b"", LARGEST + 1)):
        request = POST.replace(b"Host: x", b"Expect: 100-continue") % (length, body)
        assert not arrived(request).waits_to_be_asked
