"""The HTTP server and the bridge to our threads: who waits for whom, and what the application gets to see."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from tests.integration.web import LARGEST_BODY, MUCH, THREADS, Web, all_of, wait_for, web

from allocation.entrypoints.http.bridge import LONGEST_ARRIVAL
from allocation.entrypoints.http.input import TWO_KEYS

HOST = b"Host: x\r\n"
BODY = b'{"whole": true}'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with web(tmp_path_factory.mktemp("web")) as found:
        yield found


# --- clients that are slow -------------------------------------------------------

STALLED = {
    "silent": (b"", b""),
    "head": (b"GET / HTTP/1.1\r\nHost: x\r\nX-", b""),
    "next head": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT", b"200"),
    "body": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n{", b"408"),
    "chunk": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{", b"408"),
    "no chunk": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"408"),
    "large body": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n{", b"200"),
}
"""What they send, and the status that they are answered."""


def test_64_clients_of_each_kind_that_stall_hold_up_nobody_and_are_cut_off(site: Web) -> None:
    with ExitStack() as stack:
        clients = {kind: [stack.enter_context(site.connect()) for _ in range(64)] for kind in STALLED}
        begun = time.monotonic()
        for kind, connections in clients.items():
            for connection in connections:
                connection.sendall(STALLED[kind][0])
        assert slowest_of_eight_clients(site) < LONGEST_ARRIVAL - 1

        for kind, connections in clients.items():
            heard = {all_of(connection)[9:12] for connection in connections}
            assert heard == {STALLED[kind][1]}, kind
        assert time.monotonic() - begun < 2 * LONGEST_ARRIVAL + 2


def test_a_client_that_trickles_is_cut_off_too(site: Web) -> None:
    with ThreadPoolExecutor(2) as clients:
        heard = clients.map(lambda kind: heard_of_trickling(site, STALLED[kind][0]), ["head", "body"])

    assert [said[9:12] for said in heard] == [b"", b"408"]


def heard_of_trickling(site: Web, begin: bytes) -> bytes:
    with site.connect() as connection:
        connection.sendall(begin)
        connection.settimeout(0.1)
        begun = time.monotonic()
        while time.monotonic() - begun < 2 * LONGEST_ARRIVAL:
            try:
                connection.sendall(b"x")
                return connection.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                return b""
    raise AssertionError("it was not cut off")


def test_64_clients_that_take_nothing_of_a_large_answer_hold_up_nobody(site: Web) -> None:
    with ExitStack() as stack:
        for _ in range(64):
            reader = stack.enter_context(site.connect(receive_buffer=2048))
            reader.sendall(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")

        assert slowest_of_eight_clients(site) < LONGEST_ARRIVAL - 1


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it(site: Web) -> None:
    with site.connect(receive_buffer=4096) as reader:
        reader.sendall(b"GET /much HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert site.ask()[0] == 200

        assert all_of(reader).partition(b"\r\n\r\n")[2] == MUCH


def slowest_of_eight_clients(site: Web) -> float:
    """Of those that ask within a second; who is held up is answered when the others are cut off, four later or more."""
    end = time.monotonic() + 1

    def work(_: int) -> float:
        slowest = 0.0
        while (asked := time.monotonic()) < end:
            assert site.ask(method="POST", body=BODY)[0] == 200
            slowest = max(slowest, time.monotonic() - asked)
        return slowest

    with ThreadPoolExecutor(8) as clients:
        return max(clients.map(work, range(8)))


def test_how_long_a_request_has_waited_for_a_thread_is_known(site: Web, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    with ThreadPoolExecutor(THREADS + 1) as clients:
        busy = [clients.submit(site.ask, f"/wait?{go_on}") for _ in range(THREADS)]
        wait_for(lambda: site.came().count("GET /wait") >= THREADS, "all threads are busy")
        waits = clients.submit(site.heard_of, "/", "X-Waits: yes")
        assert not waits.done()
        time.sleep(0.3)  # what is measured
        go_on.touch()

        assert 0.2 < waits.result()["waited"] < 5
    assert {answer.result()[0] for answer in busy} == {200}
    assert site.heard_of()["waited"] < 0.2


# --- bodies ------------------------------------------------------------------------


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def post(body: bytes, *headers: bytes, path: bytes = b"/") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers, b"", body]
    return b"\r\n".join(lines)


CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize("size", [1, LARGEST_BODY])
def test_a_body_is_given_as_a_whole(site: Web, size: int) -> None:
    heard = site.heard_of(method="POST", body=b"x" * size)

    assert (heard["CONTENT_LENGTH"], heard["body"]) == (str(size), "x" * size)


@pytest.mark.parametrize("pieces", [[], [BODY], [BODY[:3], BODY[3:]], [bytes([letter]) for letter in BODY]])
def test_a_body_in_chunks_is_given_as_one_with_a_length(site: Web, pieces: list[bytes]) -> None:
    heard = json.loads(site.said_to(post(chunked(*pieces), CHUNKED)).partition(b"\r\n\r\n")[2])

    whole = b"".join(pieces).decode()
    assert (heard["CONTENT_LENGTH"], heard["body"]) == (str(len(whole)), whole)
    assert "HTTP_TRANSFER_ENCODING" not in heard


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (BODY[:5], b"Content-Length: 15"),
        (chunked(BODY, end=b""), CHUNKED),
        (chunked(BODY, end=b"ZZ\r\n"), CHUNKED),
        (chunked(BODY, end=b"0\r\n"), CHUNKED),
        (chunked(BODY, end=b"0\r\nX-Trailer: yes\r\n\r\n"), CHUNKED),
        (b"5\r\n" + BODY + b"\r\n0\r\n\r\n", CHUNKED),
        (b"fffffffffffffffff\r\n" + BODY, CHUNKED),
    ],
)
def test_a_body_that_ends_too_early_or_elsewhere_is_refused_though_what_came_were_whole(
    site: Web, body: bytes, header: bytes
) -> None:
    said = site.said_to(post(body, header, path=b"/NEVER"), then_close=b"Trailer" not in body)

    head, _, answer = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert "the body ends too early" in json.loads(answer)["message"]
    assert not [line for line in site.came() if "NEVER" in line]


@pytest.mark.parametrize("how", ["length", "chunks"])
def test_of_a_body_that_is_too_large_the_application_gets_enough_to_refuse_it(site: Web, how: str) -> None:
    much = b"x" * 5_000_000
    header, body = (b"Content-Length: 5000000", much) if how == "length" else (CHUNKED, chunked(much))

    heard = json.loads(site.said_to(post(body, header)).partition(b"\r\n\r\n")[2])

    assert int(heard["CONTENT_LENGTH"]) > LARGEST_BODY


def test_a_client_may_wait_to_be_asked_for_its_body(site: Web) -> None:
    with site.connect() as connection:
        connection.sendall(post(b"", b"Content-Length: 15", b"Expect: 100-continue"))
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert all_of(connection).startswith(b"HTTP/1.1 200 ")


# --- what the application is told --------------------------------------------------


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/a%2Fb", "/a/b"),
        ("//a//b/", "//a//b/"),
        ("/%C3%A4%E6%A4%85", "/ä椅"),
        ("/%252F", "/%2F"),
        ("/a%00b", "/a\0b"),
        ("/%ff", "/\N{REPLACEMENT CHARACTER}"),
        ("http://elsewhere/a", "/a"),
    ],
)
def test_a_path_is_given_as_it_was_sent_but_for_percent_signs(site: Web, path: str, given: str) -> None:
    heard = site.heard_of(f"{path}?q=%2F")

    assert heard["PATH_INFO"].encode("latin-1").decode() == given
    assert (heard["QUERY_STRING"], heard["SCRIPT_NAME"]) == ("q=%2F", "")


def test_headers_are_given_once_each_and_those_with_underscores_not_at_all(site: Web) -> None:
    heard = site.heard_of(
        "/", "X-A: 1", "x-a: 2", "Content_Length: 5", "X_A: 3", "Script_Name: /y", "Content-Type: a/b"
    )

    assert heard["HTTP_X_A"] == "1,2"
    assert heard["CONTENT_TYPE"] == "a/b"
    assert (heard["CONTENT_LENGTH"], heard["SCRIPT_NAME"]) == ("0", "")
    assert "HTTP_CONTENT_LENGTH" not in heard


def test_a_header_that_is_not_ascii_is_seen_to_be_there(site: Web) -> None:
    assert not site.heard_of("/", "Idempotency-Key: schl\xfcssel")["HTTP_IDEMPOTENCY_KEY"].isascii()


@pytest.mark.parametrize("keys", [1, 2])
def test_more_than_one_idempotency_key_is_seen(site: Web, keys: int) -> None:
    heard = site.heard_of("/", *["Idempotency-Key: k1"] * keys)

    assert heard[TWO_KEYS] is (keys == 2)


def test_the_client_is_named(site: Web) -> None:
    heard = site.heard_of()

    assert (heard["REMOTE_ADDR"], heard["SERVER_NAME"]) == ("127.0.0.1", "127.0.0.1")
    assert (heard["SERVER_PORT"], heard["SERVER_PROTOCOL"]) == (str(site.settings.port), "HTTP/1.1")
    assert heard["wsgi.url_scheme"] == "http"


def test_a_proxy_on_this_machine_is_believed_that_it_speaks_tls(site: Web) -> None:
    assert site.heard_of("/", "X-Forwarded-Proto: https")["wsgi.url_scheme"] == "https"
    assert site.heard_of("/", "X-Forwarded-Proto: ftp")["wsgi.url_scheme"] == "http"


def test_a_proxy_that_is_not_trusted_is_not_believed(tmp_path: Path) -> None:
    with web(tmp_path, trusted_proxies=()) as site:
        assert site.heard_of("/", "X-Forwarded-Proto: https")["wsgi.url_scheme"] == "http"


def test_head_has_no_body_and_the_length_of_one(site: Web) -> None:
    status, headers, body = site.ask(method="HEAD")

    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


def test_a_fault_of_the_application_is_a_500_that_tells_nothing_and_ends_no_thread(site: Web) -> None:
    for _ in range(2 * THREADS):
        status, _, body = site.ask("/fail")
        assert (status, json.loads(body)) == (500, {"message": "internal error"})

    assert site.ask()[0] == 200
    assert "ZeroDivisionError" in site.errors.read_text()


def test_a_line_break_in_a_header_of_an_answer_adds_no_header(site: Web) -> None:
    assert b"cookie" not in site.said_to(b"GET /odd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").lower()


def test_the_server_logs_as_the_service_does(site: Web) -> None:
    site.ask("/fail")

    said = [json.loads(line) for line in site.errors.read_text().splitlines()]

    assert {"event", "level", "logger", "timestamp"} <= said[0].keys()
    assert any("Listening at" in line["event"] for line in said)


# --- one request is one request -------------------------------------------------------


@pytest.mark.parametrize("letter", ["é", "\N{CHAIR}", "\ufffd"])
def test_letters_that_are_not_escaped_are_those_that_are(site: Web, letter: str) -> None:
    """As curl and people send them; bytes of UTF-8, as WSGI has them."""
    asked = f"GET /{letter}?sku={letter} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()

    heard = json.loads(site.said_to(asked).partition(b"\r\n\r\n")[2])

    as_wsgi_has_it = letter.encode().decode("latin-1")
    assert (heard["PATH_INFO"], heard["QUERY_STRING"]) == (f"/{as_wsgi_has_it}", f"sku={as_wsgi_has_it}")


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(SMUGGLED)
CORPUS = {
    "length, then chunks": LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks, then length": b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": LENGTH + b"Content-Length: 0\r\n\r\n" + SMUGGLED,
    "two lengths, the other way": b"Content-Length: 0\r\n" + LENGTH + b"\r\n" + SMUGGLED,
    "a list of lengths": b"Content-Length: 0, %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "a length with a sign": b"Content-Length: +0\r\n\r\n" + SMUGGLED,
    "a negative length": b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a length in hex": b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
    "a huge length": b"Content-Length: 99999999999999999999999\r\n\r\n" + SMUGGLED,
    "a length with an underscore": LENGTH + b"Content_Length: 0\r\n\r\n" + SMUGGLED,
    "a length with a space before its colon": b"Content-Length : 0\r\n" + LENGTH + b"\r\n" + SMUGGLED,
    "a length behind a tab": LENGTH + b"\tContent-Length: 0\r\n\r\n" + SMUGGLED,
    "a folded header": LENGTH + b"X: y\r\n Content-Length: 0\r\n\r\n" + SMUGGLED,
    "a length behind a bare return": LENGTH + b"X: y\rContent-Length: 0\r\n\r\n" + SMUGGLED,
    "a length behind a zero": LENGTH + b"X: y\0Content-Length: 0\r\n\r\n" + SMUGGLED,
    "another coding": LENGTH + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
    "another coding behind chunks": LENGTH + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a coding with a tab": LENGTH + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a coding in quotes": LENGTH + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n' + SMUGGLED,
    "two codings": LENGTH + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk with a sign": b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + SMUGGLED,
    "a chunk in 0x": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + SMUGGLED,
    "a chunk of a size that wraps around": b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" + SMUGGLED,
    "a chunk that goes on": b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx0\r\n\r\n" + SMUGGLED,
    "a body larger than allowed": b"Content-Length: 5000\r\n\r\n" + (SMUGGLED * 200)[:5000],
    "chunks larger than allowed": b"Transfer-Encoding: chunked\r\n\r\n1388\r\n" + (SMUGGLED * 200)[:5000],
    "in the old version, in chunks": b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("kind", CORPUS)
def test_no_bytes_make_two_requests_of_one(site: Web, kind: str) -> None:
    """One that ends where the body is said to end twice may be answered, but nothing after it."""
    version = b"1.0" if "old version" in kind else b"1.1"

    said = site.said_to(b"POST / HTTP/" + version + b"\r\nHost: x\r\n" + CORPUS[kind], then_close=True)

    assert len(re.findall(rb"HTTP/1\.[01] \d{3} ", said)) <= 1
    assert "GET /smuggled" not in site.came()


def test_several_requests_in_one_packet_are_answered_in_their_order(site: Web) -> None:
    asked = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5))

    said = site.said_to(asked + b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    answers = [json.loads(part.partition(b"\r\n\r\n")[2])["PATH_INFO"] for part in said.split(b"HTTP/1.1 ")[1:]]
    assert answers == ["/0", "/1", "/2", "/3", "/4", "/last"]


@pytest.mark.parametrize(
    "head", [b"NEVER", b"GET /NEVER HTTP/9.9\r\n", b"\x16\x03\x01\x02\0", b"GET /NEVER\x01 HTTP/1.1"]
)
def test_what_is_no_http_is_answered_by_the_server(site: Web, head: bytes) -> None:
    said = site.said_to(head + b"\r\n\r\n", then_close=True)

    assert not said or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))
    assert not [line for line in site.came() if "NEVER" in line or "\x16" in line]


def test_a_head_that_is_too_large_is_refused(site: Web) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 4000) for number in range(20))

    assert site.said_to(b"GET / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n").startswith(b"HTTP/1.1 431 ")


# --- streams ----------------------------------------------------------------------------


def test_a_thread_comes_free_when_the_client_of_a_stream_has_gone(site: Web) -> None:
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(THREADS - 1):
                reader = stack.enter_context(site.connect())
                reader.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"text/event-stream" in reader.recv(4096)
        with ThreadPoolExecutor(THREADS) as clients:
            assert {answer[0] for answer in clients.map(lambda _: site.ask(), range(THREADS))} == {200}


# --- processes ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_stream_ends_with_its_process_and_a_request_in_flight_is_answered(tmp_path: Path, method: str) -> None:
    go_on = tmp_path / "go-on"
    with web(tmp_path, method) as site, site.connect() as stream, ThreadPoolExecutor(1) as client:
        stream.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"text/event-stream" in stream.recv(4096)
        waits = client.submit(site.ask, f"/wait?{go_on}")
        wait_for(lambda: "GET /wait" in site.came(), "the request is in flight")
        site.process.terminate()
        assert b"the end" in all_of(stream)
        wait_for(lambda: not site.is_up(), "it takes no new connection")
        go_on.touch()

        assert waits.result()[0] == 200
        assert site.ends() == 0
        assert (tmp_path / "closed").exists(), "what is to be done at the end was done"


def test_processes_that_are_killed_are_replaced_however_often(tmp_path: Path) -> None:
    with web(tmp_path, workers=2) as site:
        for _ in range(4):
            wait_for(lambda: len(site.workers()) == 2, "there are two")
            before = site.workers()
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: len(site.workers() - before) == 2, "there are two others")  # noqa: B023
            wait_for(site.is_up, "they answer")
        assert site.ends() == 0


def test_processes_end_with_their_parent(tmp_path: Path) -> None:
    with web(tmp_path, workers=2) as site:
        workers = site.workers()
        os.kill(site.process.pid, signal.SIGKILL)

        wait_for(lambda: not any(is_running(pid) for pid in workers), "nothing is left")


HANGS = """
import signal, threading
from allocation.entrypoints.http import bridge
signal.signal(signal.SIGTERM, signal.SIG_IGN)
bridge._LONGEST_END = 0.1
bridge._end_alone()
threading.Event().wait(20)
"""


def test_a_process_without_its_parent_ends_though_it_hangs_while_it_stops() -> None:
    """As granian has been seen to do, for hours, with all connections to the database."""
    assert subprocess.run([sys.executable, "-c", HANGS], check=False).returncode == 1


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("host", ["::1", "unix:api"])
def test_it_listens_on_ipv6_and_on_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.chdir(tmp_path)
    with web(tmp_path, host=host) as site:
        heard = site.heard_of(method="POST", body=BODY)
        assert heard["body"] == BODY.decode()
        assert heard["REMOTE_ADDR"] == (host if host == "::1" else "")
        assert heard["SERVER_PORT"].isdigit()
        assert site.ends() == 0


def test_it_speaks_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))

    with web(tmp_path, tls_certificate=tmp_path / "certificate.pem", tls_key=tmp_path / "key.pem") as site:
        assert site.heard_of()["wsgi.url_scheme"] == "https"
        with socket.create_connection((site.settings.host, site.settings.port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not all_of(plain).startswith(b"HTTP")
