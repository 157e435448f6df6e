"""What an API, or whatever answers in its place, says when it is asked how it is."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, UnixStreamServer
from threading import Thread

import click
import pytest
import redis
import trustme

from allocation.entrypoints.demo import client
from allocation.entrypoints.demo.client import DemoClient
from allocation.overview.api import AnotherProgram, Api, api
from messaging.errors import Unavailable


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Makes a server on this machine that answers all with a status, a body and headers; gives its URL. Over TLS with
    a certificate that nobody knows."""
    servers: list[HTTPServer] = []

    def answer(status: int, body: bytes, *, tls: bool = False, **headers: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"

    yield answer
    for server in servers:
        server.shutdown()
        server.server_close()


Answering = Callable[..., str]


def test_an_api_is_asked_at_its_unix_socket_too(tmp_path: Path) -> None:
    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            assert self.request.recv(4096).startswith(b"GET /readyz HTTP/1.1\r\n")
            self.request.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"status": "ready"}')

    with UnixStreamServer(str(tmp_path / "api"), Handler) as server:
        Thread(target=server.handle_request, daemon=True).start()

        assert api(f"unix:{tmp_path / 'api'}").status == "ready"


def test_an_api_is_asked_whoever_has_signed_its_certificate(answering: Answering) -> None:
    assert api(answering(200, b'{"status": "ready"}', tls=True)).status == "ready"


@pytest.mark.parametrize("status", ["ready", "degraded"])
def test_an_api_says_how_it_is_and_which_redis_it_has(status: str, answering: Answering) -> None:
    found = api(answering(200, b'{"status": "%s", "redis_run": "0f3c/0"}' % status.encode()))

    assert (found.status, found.redis_run) == (status, "0f3c/0")
    assert found.milliseconds > 0


def test_one_that_is_not_ready_answers_all_the_same(answering: Answering) -> None:
    assert api(answering(503, b'{"status": "not ready"}')).status == "not ready"


@pytest.mark.parametrize(
    "said",
    [b"{}", b"[]", b"null", b'"ready"', b'{"state": "ready"}', b'{"status": ["ready"]}', b"<html>", b"\xff", b""],
)
@pytest.mark.parametrize("status", [200, 404])
def test_another_program_is_not_taken_for_one(status: int, said: bytes, answering: Answering) -> None:
    with pytest.raises(AnotherProgram):
        api(answering(status, said))


def test_where_nobody_is_that_is_said_in_a_few_words() -> None:
    with pytest.raises(Unavailable, match="connection refused"):
        api("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["http://no..name", "http://a b", "http://[::1]:9"])
def test_an_address_that_leads_nowhere_is_no_fault_of_ours(url: str) -> None:
    with pytest.raises(Unavailable):
        api(url)


def test_a_proxy_is_not_asked(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    assert api(answering(200, b'{"status": "ready"}')).status == "ready"


# --- what the demo makes of it ------------------------------------------------------


@contextmanager
def refused() -> Iterator[list[str]]:
    said: list[str] = []
    with pytest.raises(click.ClickException) as error:
        yield said
    said.append(error.value.message)


def test_a_demo_is_not_played_between_two_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "run_of", lambda _: "ours/0")
    with redis.Redis() as broker:
        demo = DemoClient("http://127.0.0.1:5005", broker)

        with refused() as said:
            demo.require_same_redis(Api("ready", 1.0, "theirs/0"))
        demo.require_same_redis(Api("ready", 1.0, "ours/0"))
        demo.require_same_redis(Api("ready", 1.0, None))

    assert "the service at http://127.0.0.1:5005 speaks to another Redis" in said[0]


@pytest.mark.parametrize(
    ("status", "challenge", "key", "expected"),
    [
        (401, "Bearer", "", "requires an API key: put one into ALLOCATION_API_KEY"),
        (401, "Bearer", "alk_wrong", "the API key in ALLOCATION_API_KEY is not known"),
        (
            403,
            'Bearer realm="allocation", error="insufficient_scope", scope="operate"',
            "alk_x",
            "the API key in ALLOCATION_API_KEY lacks the scope operate",
        ),
        (403, "", "alk_x", "the API key in ALLOCATION_API_KEY may not use /add_batch"),
    ],
)
def test_what_is_wrong_with_the_key_is_said(
    status: int, challenge: str, key: str, expected: str, answering: Answering
) -> None:
    with redis.Redis() as broker, refused() as said:
        DemoClient(answering(status, b"", WWW_Authenticate=challenge), broker, key).add_batch("b1", "LAMP", 1)

    assert expected in said[0]
