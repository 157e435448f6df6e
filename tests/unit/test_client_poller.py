"""A worker that waits for its clients in one place: none of them can make it wait, or end it."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock, patch

import pytest
from gunicorn.workers.gthread import ThreadWorker

from allocation.entrypoints.http import client_poller
from allocation.entrypoints.http.client_poller import LONGEST_ARRIVAL, Client, PollingWorker
from allocation.entrypoints.http.framing import TooMuch

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Room:
    """A worker with a poller and no threads: what it would give to one is in `handed`. Time stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        configuration = Mock(worker_connections=10, threads=1, max_requests=0, keepalive=5)
        with patch("gunicorn.workers.base.WorkerTmp"):
            self.worker = PollingWorker(1, 1, [], Mock(), 1, configuration, Mock())
        self.worker.largest_body = 100
        self.worker.poller = selectors.DefaultSelector()
        self.handed: list[Client] = []
        self.now = 1000.0
        self.refused: list[int] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        monkeypatch.setattr(ThreadWorker, "enqueue_req", lambda _, conn: self.handed.append(conn))
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("gunicorn.util.write_error", lambda _, status, *__: self.refused.append(status))

    def client(self) -> socket.socket:
        client = socket.create_connection(self._listener.getsockname())
        self._clients.append(client)
        self.worker.accept(self._listener)
        return client

    def looks(self, within: float = 2) -> None:
        """At whatever there is, once it is there."""
        for key, _ in self.worker.poller.select(within):
            key.data(key.fileobj)

    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.worker.murder_keepalived()
        self.worker.murder_pending()

    def close(self) -> None:
        for conn in [key.data.args[0] for key in [*self.worker.poller.get_map().values()]] + self.handed:
            conn.sock.close()
        self.worker.poller.close()
        self._listener.close()
        for client in self._clients:
            client.close()


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    room = Room(monkeypatch)
    yield room
    room.close()


def answered(stays: bool) -> Any:
    return Mock(cancelled=lambda: False, result=lambda: stays)


def test_a_thread_gets_a_client_when_its_request_is_there_and_not_before(room: Room) -> None:
    client = room.client()
    for piece in (GET[:5], GET[5:-1]):
        client.sendall(piece)
        room.looks()
        assert not room.handed

    client.sendall(GET[-1:])
    room.looks()

    [conn] = room.handed
    assert conn.arrival.take() == GET


def test_a_client_that_is_silent_is_closed_and_one_that_is_slow_is_told(room: Room) -> None:
    silent, slow = room.client(), room.client()
    slow.sendall(GET[:5])
    room.looks()

    room.time_passes(LONGEST_ARRIVAL)

    assert silent.recv(1) == b""
    assert room.refused == [408]
    assert slow.recv(1) == b""
    assert room.worker.nr_conns == 1, "the slow one may still take its answer"


def test_a_client_that_sends_a_little_now_and_then_wins_no_time(room: Room) -> None:
    client = room.client()
    for letter in GET[:4]:
        client.sendall(bytes([letter]))
        room.looks()
        room.time_passes(LONGEST_ARRIVAL / 4)

    assert room.refused == [408]


def test_a_client_that_goes_away_is_forgotten(room: Room) -> None:
    for sent in (b"", GET[:5]):
        client = room.client()
        client.sendall(sent)
        if sent:
            room.looks()
        client.close()
        room.looks()

    assert room.worker.nr_conns == 0
    assert not room.handed


def test_too_much_is_refused_without_a_thread(room: Room) -> None:
    client = room.client()
    client.sendall(GET[:-2] + b"X: " + b"x" * 40_000)
    while not room.refused:
        room.looks()

    assert room.refused == [431]


def test_too_much_that_a_thread_finds_is_refused_too(room: Room) -> None:
    client = room.client()
    client.sendall(GET)
    room.looks()
    [conn] = room.handed

    def found(*_: object) -> None:
        raise TooMuch(431, "Request Header Fields Too Large", "too large")

    room.worker.finish_request(conn, Mock(cancelled=lambda: False, result=found))

    assert room.refused == [431]
    assert client.recv(1) == b""


def test_a_client_that_was_answered_is_seen_off_without_waiting_for_it(room: Room) -> None:
    client = room.client()
    client.sendall(GET)
    room.looks()
    [conn] = room.handed
    conn.arrival.take()
    conn.arrival.begin_again()
    client.sendall(b"more than was asked for")

    room.worker.finish_request(conn, answered(False))

    assert client.recv(1) == b"", "it has had its answer"
    room.looks()
    assert room.worker.nr_conns == 1, "it may still be sending"
    room.time_passes(2)
    assert room.worker.nr_conns == 0


def test_a_client_that_stays_is_waited_for_again_and_has_its_turn_if_more_has_come(room: Room) -> None:
    client = room.client()
    client.sendall(GET + GET)
    room.looks()
    [conn] = room.handed
    conn.arrival.take()
    conn.arrival.begin_again()

    room.worker.finish_request(conn, answered(True))
    assert room.handed == [conn, conn], "pipelined"

    conn.arrival.take()
    conn.arrival.begin_again()
    room.worker.finish_request(conn, answered(True))
    client.sendall(GET)
    room.looks()
    assert room.handed == [conn, conn, conn]


def test_a_client_that_takes_no_more_of_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_poller, "LONGEST_SILENCE", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        sock, address = listener.accept()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        conn = Client(100, Mock(), sock, address, listener.getsockname())
        conn.sock.setblocking(True)
        begun = time.monotonic()

        with conn.sock, pytest.raises(BlockingIOError):
            conn.sock.sendall(b"x" * 2_000_000)

    assert time.monotonic() - begun < 5


def test_no_thread_waits_for_a_body_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even to keep the connection for the next request."""
    waited: list[object] = []
    monkeypatch.setattr(ThreadWorker, "_keepalive_after", lambda *_: waited.append(None))
    after: Callable[..., bool] = PollingWorker._keepalive_after
    with patch("gunicorn.workers.base.WorkerTmp"):
        worker = PollingWorker(1, 1, [], Mock(), 1, Mock(worker_connections=10, threads=1, max_requests=0), Mock())

    assert not after(worker, Mock(arrival=Mock(whole=False)), True)
    assert not waited
