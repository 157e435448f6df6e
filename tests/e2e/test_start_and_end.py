"""How the service ends, what it leaves behind, and what it says when it can't start."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from tests.e2e.client import Client, assert_works, random_batchref, random_orderid, random_sku
from tests.e2e.service import Service, allocation, environment
from tests.e2e.waiting import PATIENCE, eventually

from allocation.overview.api import api as api_by
from messaging.errors import Unavailable


def test_says_where_everything_is_once_it_is_ready(service: Service) -> None:
    eventually(lambda: "Ctrl-C stops everything" in service.said(), "it has said all")

    assert "Ready" in service.said()
    assert f"http://127.0.0.1:{service.port}" in service.said()
    assert service.smtp_url in service.said()


def test_ctrl_c_answers_what_is_in_flight_and_ends_everything_within_5_seconds(service: Service, api: Client) -> None:
    with a_request_in_flight(service, api) as answer:
        begin = time.monotonic()
        service.press_ctrl_c()
        eventually(lambda: not api.takes_connections(), "the API takes no new requests")

    assert answer.result().status_code == 202
    assert service.until_ended() == 0
    assert time.monotonic() - begin < 5


def test_sigterm_to_one_of_several_apis_loses_no_request(service: Service, api: Client) -> None:
    with service.second_api() as (process, second_api):
        with a_request_in_flight(service, second_api) as answer:
            process.terminate()
            eventually(lambda: not second_api.takes_connections(), "it takes no new requests")

        assert answer.result().status_code == 202
        assert process.wait(PATIENCE) == 0
    assert_works(api)


def test_a_kill_leaves_nothing_running_and_loses_nothing(service: Service, api: Client) -> None:
    sku, order, batch = random_sku(), random_orderid(), random_batchref()
    api.add_batch(batch, sku, 10)
    api.allocate(order, sku)

    service.signal(signal.SIGKILL)
    assert service.until_ended() == -signal.SIGKILL
    service.start()

    assert service.until_ready().batches_of(order) == [batch]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("REDIS_URL", "localhost"),
        ("PORT", "http"),
        ("LOG_LEVEL", "ALL"),
        ("TLS_KEY", "nix"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(tmp_path: Path, name: str, value: str) -> None:
    complaint = complaint_of(allocation("run"), environment(ALLOCATION_HOME=str(tmp_path), **{name: value}))

    assert name in complaint
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_a_certificate_that_can_not_be_used_is_named_in_one_line(tmp_path: Path) -> None:
    env = environment(ALLOCATION_HOME=str(tmp_path), TLS_CERTIFICATE=__file__, TLS_KEY=__file__)

    assert "TLS_CERTIFICATE and TLS_KEY can't be used" in complaint_of(allocation("run"), env)


def test_a_unix_socket_is_listened_on_by_one_and_one_that_was_left_is_no_hindrance(
    service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "api"
    env = environment(ALLOCATION_HOME=str(service.home), HOST=f"unix:{path}", LOG_LEVEL="ERROR")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert str(path) in complaint_of(allocation("serve"), env)

    with subprocess.Popen(allocation("serve"), env=env) as process:
        eventually(lambda: says_ready_by(path), "it is ready")
        process.terminate()
        assert process.wait(PATIENCE) == 0


def says_ready_by(path: Path) -> bool:
    try:
        return api_by(f"unix:{path}").status == "ready"
    except Unavailable:
        return False


def test_a_taken_port_is_named_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        complaint = complaint_of(allocation("run", "--port", port), environment(ALLOCATION_HOME=str(tmp_path)))

    assert f"127.0.0.1:{port}" in complaint
    assert "--port" in complaint
    assert not list(tmp_path.iterdir()), "nothing was begun"


@contextmanager
def a_request_in_flight(service: Service, api: Client) -> Iterator[Future[requests.Response]]:
    """It has reached the database, where it waits until the block ends."""
    sku = random_sku()
    api.add_batch(random_batchref(), sku, 10)
    with ThreadPoolExecutor(1) as customer, service.database() as database:
        database.execute("SELECT 1 FROM products WHERE sku = %s FOR UPDATE", [sku])
        asking = customer.submit(api.try_to_allocate, random_orderid(), sku)
        eventually(lambda: database.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone(), "it waits")
        yield asking


def complaint_of(command: list[str], env: dict[str, str]) -> str:
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    return line
