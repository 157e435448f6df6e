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


def test_says_where_everything_is_once_it_is_ready(service: Service) -> None:
    eventually(lambda: "Ctrl-C stops everything" in service.said(), "it has said all")

    assert "Ready" in service.said()
    assert f"http://127.0.0.1:{service.port}" in service.said()
    assert service.smtp_url in service.said()


def test_ctrl_c_answers_what_is_in_flight_and_ends_everything_within_5_seconds(service: Service, api: Client) -> None:
    with a_request_in_flight(service, api) as answer:
        begin = time.monotonic()
        service.press_ctrl_c()
        eventually(lambda: not api.takes_connections(), "the API takes no new requests", within=2)

    assert answer.result().status_code == 202
    assert service.until_ended() == 0
    assert time.monotonic() - begin < 5


def test_sigterm_to_one_of_several_apis_loses_no_request(service: Service, api: Client) -> None:
    with service.second_api() as (process, second_api):
        with a_request_in_flight(service, second_api) as answer:
            process.terminate()
            eventually(lambda: not second_api.takes_connections(), "it takes no new requests", within=2)

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
    [("DATABASE_URL", "nonsense"), ("REDIS_URL", "localhost"), ("PORT", "http"), ("LOG_LEVEL", "ALL")],
)
def test_a_bad_setting_is_named_in_one_line(tmp_path: Path, name: str, value: str) -> None:
    complaint = complaint_of(allocation("run"), environment(ALLOCATION_HOME=str(tmp_path), **{name: value}))

    assert name in complaint
    assert not list(tmp_path.iterdir()), "nothing was begun"


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
