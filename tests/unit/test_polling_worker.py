"""A worker that waits for its clients in one place: none of them can make it wait, or end it."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock, patch

import pytest
from gunicorn.workers.gthread import ThreadWorker

from allocation.entrypoints.http.client_socket import LONGEST_SILENCE
from allocation.entrypoints.http.framing import RequestTooLarge
from allocation.entrypoints.http.polling_worker import LEAST_TAKEN, LONGEST_ARRIVAL, Client, PollingWorker

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = bytes(range(256)) * 40_000
"""More than the kernel takes for a client that does not read."""


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
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        monkeypatch.setattr(ThreadWorker, "enqueue_req", lambda _, conn: self.handed.append(conn))
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("gunicorn.util.write_error", lambda _, status, *__: self.refused.append(status))

    def client(self) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.settimeout(5)
        client.connect(self.listener.getsockname())
        self._clients.append(client)
        self.worker.accept(self.listener)
        return client

    def client_that_is_behind(self, stays: bool = True, more: bytes = b"") -> tuple[socket.socket, Client]:
        """It has had its answer, and not taken it."""
        client = self.client()
        client.sendall(GET + more)
        self.looks()
        conn = self.handed.pop()
        conn.buffer.take()
        conn.buffer.begin_again()
        conn.sock.sendall(LARGE)
        self.worker.finish_request(conn, answered(stays))
        return client, conn

    def takes(self, client: socket.socket, count: int) -> bytes:
        """What the client has taken, at least so much. The worker looks at its sockets meanwhile."""
        taken = bytearray()
        while len(taken) < count:
            more = client.recv(100_000)
            assert more, "the worker has closed the connection"
            taken += more
            self.looks(within=0)
        return bytes(taken)

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
        self.listener.close()
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
    assert conn.buffer.take() == GET


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
        raise RequestTooLarge(431, "Request Header Fields Too Large", "too large")

    room.worker.finish_request(conn, Mock(cancelled=lambda: False, result=found))

    assert room.refused == [431]
    assert client.recv(1) == b""


def test_a_client_that_was_answered_is_seen_off_without_waiting_for_it(room: Room) -> None:
    client = room.client()
    client.sendall(GET)
    room.looks()
    [conn] = room.handed
    conn.buffer.take()
    conn.buffer.begin_again()
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
    conn.buffer.take()
    conn.buffer.begin_again()

    room.worker.finish_request(conn, answered(True))
    assert room.handed == [conn, conn], "pipelined"

    conn.buffer.take()
    conn.buffer.begin_again()
    room.worker.finish_request(conn, answered(True))
    client.sendall(GET)
    room.looks()
    assert room.handed == [conn, conn, conn]


def test_a_client_that_asks_to_be_asked_behind_another_request_is_asked(room: Room) -> None:
    client = room.client()
    client.sendall(GET + b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    room.looks()
    [conn] = room.handed
    conn.buffer.take()
    conn.buffer.begin_again()

    room.worker.finish_request(conn, answered(True))

    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"hello")
    room.looks()
    assert room.handed == [conn, conn]


# --- a client that is behind with its answer -------------------------------------------


def test_a_thread_does_not_wait_for_its_answer_to_be_taken_and_the_client_gets_all_of_it(room: Room) -> None:
    client, conn = room.client_that_is_behind()
    assert conn.sock.is_behind

    assert room.takes(client, len(LARGE)) == LARGE

    client.sendall(GET)
    room.looks()
    assert room.handed == [conn]


def test_the_next_request_of_a_packet_has_its_turn_when_the_answer_to_the_last_was_taken(room: Room) -> None:
    client, conn = room.client_that_is_behind(more=GET)
    assert not room.handed

    room.takes(client, len(LARGE))

    assert room.handed == [conn]


def test_a_client_that_was_to_leave_leaves_when_it_has_taken_its_answer(room: Room) -> None:
    client, _ = room.client_that_is_behind(stays=False)

    assert room.takes(client, len(LARGE)) == LARGE

    assert client.recv(1) == b""


def test_what_is_said_while_a_client_is_behind_comes_after_what_was_said_before(room: Room) -> None:
    client, conn = room.client_that_is_behind(stays=False)

    conn.sock.sendall(b"the end")

    assert room.takes(client, len(LARGE) + 7) == LARGE + b"the end"


def test_a_client_that_takes_too_little_of_its_answer_is_cut_off(room: Room) -> None:
    client, _ = room.client_that_is_behind()
    room.time_passes(LONGEST_SILENCE / 2)
    client.recv(1000)
    room.looks(within=0)

    room.time_passes(LONGEST_SILENCE / 2)

    assert room.worker.nr_conns == 0


def test_a_client_that_takes_enough_of_a_large_answer_has_time_for_the_rest(room: Room) -> None:
    client, conn = room.client_that_is_behind()
    for _ in range(2):
        while conn.sock.taken_late < LEAST_TAKEN:
            room.takes(client, 1)
        room.time_passes(LONGEST_SILENCE)
        assert room.worker.nr_conns == 1

    room.time_passes(LONGEST_SILENCE)

    assert room.worker.nr_conns == 0, "it has taken nothing since"


def test_a_client_that_goes_while_it_is_behind_is_forgotten(room: Room) -> None:
    client, _ = room.client_that_is_behind()
    client.close()

    room.looks()

    assert room.worker.nr_conns == 0


def test_clients_that_are_behind_do_not_outlast_the_worker(room: Room) -> None:
    room.client_that_is_behind()

    room.worker.murder_keepalived(force=True)

    assert room.worker.nr_conns == 0


def test_a_stream_ends_when_the_client_has_stayed_behind_for_too_long(room: Room) -> None:
    _, conn = room.client_that_is_behind()
    conn.sock.sendall(b"news")

    room.now += LONGEST_SILENCE + 0.1

    with pytest.raises(BrokenPipeError):
        conn.sock.sendall(b"more news")


# --- a flood of connections ------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_too_few_file_descriptors_neither_end_the_worker_nor_keep_it_busy(room: Room, number: int) -> None:
    full = Mock(wraps=room.listener, fileno=room.listener.fileno)
    full.accept.side_effect = OSError(number, "none left")
    room.worker.sockets = [full]
    room.worker.set_accept_enabled(True)
    client = socket.create_connection(room.listener.getsockname())

    with client:
        for _ in range(10):
            room.looks(within=0)
            room.worker.set_accept_enabled(True)  # as the loop does each time
        assert full.accept.call_count == 1

        room.now += 1
        room.worker.set_accept_enabled(True)
        room.looks()
        assert full.accept.call_count == 2

    assert not room.worker.poller.get_map()
