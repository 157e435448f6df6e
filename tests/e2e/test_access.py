"""Access control of a running service, and that it tells nobody its secrets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import requests
from tests.e2e.client import Client, random_orderid
from tests.e2e.service import Service, allocation, environment, free_port
from tests.e2e.test_start_and_end import complaint_of
from tests.e2e.waiting import PATIENCE, eventually


def connection_to(api: Client) -> socket.socket:
    where = urlsplit(api.url)
    return socket.create_connection((where.hostname, where.port), timeout=PATIENCE)


def all_that_is_said(connection: socket.socket) -> bytes:
    heard = b""
    while more := connection.recv(4096):
        heard += more
    return heard


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


# --- keys ------------------------------------------------------------------------------


def test_a_key_is_accepted_until_it_is_revoked(service: Service) -> None:
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
        with service.second_api(**settings | {"LOG_FORMAT": "console", "WEB_CONCURRENCY": "1"}):
            pass
        failing = [
            service.command(*command, **settings | {name: value})
            for command, name, value in [
                (("serve",), "REDIS_URL", f"redis://:{PLANTED}@here:x/0"),
                (("check",), "DATABASE_URL", with_secret.replace("planted:", "nobody:")),
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
