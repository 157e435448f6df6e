"""The doors of a running service: who is let in, who is cut off, and that nobody hears its secrets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import requests
from tests.e2e.client import Client, random_batchref, random_orderid, random_sku
from tests.e2e.service import Service, allocation, environment, free_port
from tests.e2e.test_start_and_end import complaint_of
from tests.e2e.waiting import PATIENCE, eventually

STALLED = {
    "says nothing": b"",
    "stops in its headers": b"POST /allocate HTTP/1.1\r\nHost: x\r\nContent-Ty",
    "stops in its body": b"POST /allocate HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n{",
    "stops in a chunk": b"POST /allocate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{",
    "stops after an answer": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT",
    "announces too much": b"POST /allocate HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n{",
    "stays though it was answered": b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "stays though it was refused": b"NONSENSE\r\n\r\n",
}


def connection_to(api: Client) -> socket.socket:
    where = urlsplit(api.url)
    return socket.create_connection((where.hostname, where.port), timeout=PATIENCE)


@contextmanager
def stalled(api: Client, each: int) -> Iterator[dict[str, list[socket.socket]]]:
    with ExitStack() as stack:
        clients = {kind: [stack.enter_context(connection_to(api)) for _ in range(each)] for kind in STALLED}
        for kind, connections in clients.items():
            for connection in connections:
                connection.sendall(STALLED[kind])
        yield clients


def test_32_clients_that_stall_hold_no_thread_and_are_cut_off(service: Service) -> None:
    """The API has sixteen threads."""
    with service.second_api() as (_, api):
        sku = random_sku()
        api.add_batch(random_batchref(), sku, 1000)
        with stalled(api, each=4) as clients:
            slowest, begun = 0.0, time.monotonic()
            while time.monotonic() - begun < 3:
                asked = time.monotonic()
                api.allocate(random_orderid(), sku)
                slowest = max(slowest, time.monotonic() - asked)

            assert slowest < 1, "a good client waited for a bad one"
            for kind, connections in clients.items():
                heard = all_that_is_said(connections[0])
                assert time.monotonic() - begun < 10, f"who {kind} was not cut off"
                answers = {"stops in its headers", "stops in its body", "stops in a chunk", "stops after an answer"}
                assert (b" 408 Request Timeout\r\n" in heard) is (kind in answers), (kind, heard)


def all_that_is_said(connection: socket.socket) -> bytes:
    heard = b""
    while more := connection.recv(4096):
        heard += more
    return heard


def test_a_client_that_trickles_is_cut_off_too(service: Service, api: Client) -> None:
    request = b"POST /allocate HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n"
    with connection_to(api) as connection:
        connection.settimeout(0.1)
        begun, heard = time.monotonic(), b""
        for letter in request + b" " * 1000:
            try:
                connection.sendall(bytes([letter]))
                heard += connection.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if heard:
                break

    assert heard.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begun < 10


MUCH = [
    b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 40,
]


def test_32_clients_that_ask_for_much_and_take_little_hold_no_thread(service: Service) -> None:
    """Nor do they need a key: these are open. The API has eight threads."""
    with service.second_api(WEB_CONCURRENCY="1") as (_, api), ExitStack() as stack:
        assert ask(f"{api.url}/openapi.json").status_code == 200  # is made when it is asked for first
        slow = [stack.enter_context(slow_reader(api, asks)) for asks in MUCH * 16]
        slowest, begun, next_look = 0.0, time.monotonic(), 0.0
        while time.monotonic() - begun < 4:
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + 0.5
                for connection in slow:
                    connection.recv(2048)
            asked = time.monotonic()
            assert api.ask_raw("GET /healthz HTTP/1.1", "Host: x", "Connection: close")[0] == 200
            slowest = max(slowest, time.monotonic() - asked)

        assert slowest < 1, "a good client waited for those who take little"


def slow_reader(api: Client, asks: bytes) -> socket.socket:
    where = urlsplit(api.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(PATIENCE)
    connection.connect((where.hostname, where.port))
    connection.sendall(asks)
    return connection


def test_headers_that_are_too_large_are_refused(api: Client) -> None:
    status, body = api.ask_raw("GET /healthz HTTP/1.1", "Host: x", *(f"X-{n}: {'x' * 4000}" for n in range(20)))

    assert status == 431
    assert "larger than 32768 bytes" in body["message"]


@pytest.mark.parametrize("how", ["at once", "in chunks"])
def test_a_client_that_sends_far_too_much_hears_that_it_was_too_much(api: Client, how: str) -> None:
    """Though it sends all of it before it reads: the connection is not reset under the answer."""
    body = b"x" * 5_000_000
    pieces = (body[begin : begin + 50_000] for begin in range(0, len(body), 50_000))
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Content-Type": "application/json"}
        data = body if how == "at once" else pieces
        answer = session.post(f"{api.url}/allocate", data=data, headers=headers, timeout=PATIENCE)

    assert (answer.status_code, answer.json()["message"]) == (413, "the body is larger than 65536 bytes")
    assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("expect", ["", "100-continue"])
def test_a_body_may_come_later_than_its_head_and_in_chunks(api: Client, expect: str) -> None:
    sku = random_sku()
    body = f'{{"ref": "{random_batchref()}", "sku": "{sku}", "qty": 5}}'.encode()
    head = "POST /add_batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    with connection_to(api) as connection:
        connection.sendall(f"{head}{f'Expect: {expect}' if expect else 'X: y'}\r\n\r\n".encode())
        if expect:
            assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for piece in (body[:7], body[7:], b""):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")
    api.allocate(random_orderid(), sku, 5)


def test_several_requests_in_one_packet_are_answered_in_their_order(api: Client) -> None:
    paths = ["/healthz", "/nowhere", "/allocations/nix", "/healthz"]
    with connection_to(api) as connection:
        connection.sendall("".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths[:-1]).encode())
        connection.sendall(f"GET {paths[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        heard = all_that_is_said(connection)

    assert [int(part.split()[0]) for part in heard.split(b"HTTP/1.1 ")[1:]] == [200, 404, 404, 200]


# --- keys ------------------------------------------------------------------------------


def test_a_key_opens_the_doors_until_it_is_revoked(service: Service) -> None:
    name, order = random_orderid("key"), random_orderid()
    service.command("keys", "create", f"{name}-another", "--scope", "admin")  # without any it would not start
    with service.second_api(API_KEYS="required") as (_, api):
        path = f"{api.url}/allocations/{order}"
        assert ask(path).status_code == 401
        key = service.command("keys", "create", name, "--scope", "read").stdout.strip()
        eventually(lambda: ask(path, key).status_code == 404, "the key is known to all processes")
        assert ask(f"{api.url}/allocate", key, method="POST").status_code == 403

        assert service.command("keys", "revoke", name).returncode == 0
        begun = time.monotonic()
        eventually(lambda: {ask(path, key).status_code for _ in range(8)} == {401}, "no process takes it any more")
        assert time.monotonic() - begun < 4


def ask(url: str, key: str = "", method: str = "GET") -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return session.request(method, url, headers=headers, timeout=PATIENCE)


@pytest.mark.parametrize("command", ["serve", "run"])
def test_where_others_can_reach_it_it_does_not_start_without_keys(tmp_path: Path, command: str) -> None:
    env = environment(ALLOCATION_HOME=str(tmp_path), HOST="0.0.0.0", LOG_LEVEL="ERROR")

    complaint = complaint_of(allocation(command, "--port", str(free_port())), env)

    assert "HOST is '0.0.0.0', and there is no API key" in complaint
    assert "allocation keys create NAME --scope SCOPE" in complaint
    assert "API_KEYS=trust-everybody" in complaint


# --- secrets ---------------------------------------------------------------------------

PLANTED = "planted-secret-4711"


def test_no_secret_is_heard_or_seen_anywhere(service: Service, tmp_path: Path) -> None:
    """In what a service prints and logs at its most talkative, in its answers, and in what `ps` shows of it."""
    with planted(service) as (with_secret, redis_url):
        settings = {"DATABASE_URL": with_secret, "REDIS_URL": redis_url, "LOG_LEVEL": "DEBUG", "API_KEYS": "required"}
        name = random_orderid("key")
        key = service.command("keys", "create", name, "--scope", "admin", DATABASE_URL=with_secret).stdout.strip()
        secret = key.rpartition("_")[2]
        with service.second_api(**settings, WEB_CONCURRENCY="1") as (_, api):
            answers = [
                ask(f"{api.url}/allocations/x", key).text,
                ask(f"{api.url}/allocate", key, method="POST").text,
                ask(f"{api.url}/allocations/x", f"{key}0").text,
                said_raw(api, f"GET / HTTP/1.1\r\nAuthorization Bearer {key}\r\n\r\n"),
                said_raw(api, f"GET / HTTP/1.1\r\nAuthorization: Bearer {key}\x01\r\n\r\n"),
                said_raw(api, f"GET /{key} HTTQ/1.1\r\n\r\n"),
            ]
            with connection_to(api) as gone:
                gone.sendall(f"GET / HTTP/1.1\r\nAuthorization: Bearer {key}\r\nX".encode())
            titles = [process.command for process in service.processes()]
        with service.second_api(**settings | {"LOG_FORMAT": "console"}):
            pass
        failing = [
            service.command(*command, **settings | {name: value})
            for command, name, value in [
                (("serve",), "DATABASE_URL", f"postgresql://u:{PLANTED}@127.0.0.1:port/x"),
                (("serve",), "REDIS_URL", f"redis://:{PLANTED}@here:x/0"),
                (("relay",), "SMTP_URL", f"smtp://u:{PLANTED}@here:x"),
                (("relay",), "SMTP_URL", f"smtps://:{PLANTED}@here"),
                (("serve",), "DATABASE_POOLER_URL", f"mysql://u:{PLANTED}@127.0.0.1/x"),
                (("migrate",), "DATABASE_URL", f"postgresql://u:{PLANTED}@127.0.0.1:9/x"),
                (("check",), "DATABASE_URL", with_secret.replace("planted:", "nobody:")),
                (("check",), "DATABASE_URL", f"{with_secret}?sslmode=nonsense"),
                (("dead-letters", "list"), "DATABASE_URL", f"{with_secret}x"),
                (("keys", "list"), "DATABASE_URL", f"postgresql://u:{PLANTED}@nowhere.invalid/x"),
                (("--help",), "DATABASE_URL", with_secret),
                (("serve", "--help"), "DATABASE_URL", with_secret),
            ]
        ]

    everything = "\n".join([*answers, *titles, service.said(), *(f"{each.stdout}{each.stderr}" for each in failing)])
    assert "Traceback" not in "".join(each.stderr for each in failing)
    assert any("-m allocation serve" in title for title in titles)
    for hidden in (PLANTED, secret):
        places = [line for line in everything.splitlines() if hidden in line]
        assert not places


@contextmanager
def planted(service: Service) -> Iterator[tuple[str, str]]:
    """URLs of the same servers, by a user whose password is the planted one."""
    database_url, redis_url = urlsplit(service.database_url), urlsplit(service.redis_url)
    user = f"planted:{PLANTED}@"
    with service.database() as database, redis.Redis.from_url(service.redis_url) as admin:
        database.execute(f"CREATE ROLE planted LOGIN SUPERUSER PASSWORD '{PLANTED}'")
        database.commit()
        admin.execute_command("ACL", "SETUSER", "planted", "on", f">{PLANTED}", "~*", "&*", "+@all")
        try:
            yield (
                database_url._replace(netloc=f"{user}{database_url.hostname}:{database_url.port}").geturl(),
                redis_url._replace(netloc=f"{user}{redis_url.hostname}:{redis_url.port}").geturl(),
            )
        finally:
            database.execute("DROP ROLE planted")
            admin.execute_command("ACL", "DELUSER", "planted")


def said_raw(api: Client, request: str) -> str:
    with connection_to(api) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        return all_that_is_said(connection).decode()
