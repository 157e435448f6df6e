"""A load client that costs little itself: one thread, keep-alive connections, requests rendered beforehand.

Closed loop: each client sends its next request when it has its answer. Open loop: requests are due at a fixed rate,
whatever the server does, and a latency counts from when its request was due.
"""

from __future__ import annotations

import selectors
import socket
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import TypeAlias

LOST = 0
"""The status of a request that got no answer: its connection was closed, or it came too late."""

Address: TypeAlias = tuple[str, int]

_PATIENCE = 10.0
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


@dataclass(slots=True)
class Load:
    """What came back. Times are in seconds; `latencies` are those of good answers, in the order they arrived."""

    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    statuses: Counter[int] = field(default_factory=Counter)
    in_time: int = 0
    slowest: float = 0.0
    cpu: float = 0.0

    @property
    def requests(self) -> int:
        return self.statuses.total()

    @property
    def rate(self) -> float:
        """Good answers a second, those that came after the end of the time left out."""
        return self.in_time / self.seconds

    @property
    def errors(self) -> int:
        return self.requests - len(self.latencies)

    @property
    def busy(self) -> float:
        """The share of a core that the client itself needed."""
        return self.cpu / self.seconds

    @property
    def cpu_per_request(self) -> float:
        return self.cpu / max(1, self.requests)

    def percentile(self, percent: float) -> float:
        return percentile(self.latencies, percent)


def percentile(numbers: array[float] | list[float], percent: float) -> float:
    """The smallest number that so many percent do not exceed (nearest rank); not a number when there is none."""
    if not numbers:
        return float("nan")
    ordered = sorted(numbers)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def merged(loads: list[Load]) -> Load:
    """Several rounds as one."""
    whole = Load()
    for load in loads:
        whole.seconds += load.seconds
        whole.latencies.extend(load.latencies)
        whole.statuses.update(load.statuses)
        whole.in_time += load.in_time
        whole.slowest = max(whole.slowest, load.slowest)
        whole.cpu += load.cpu
    return whole


def status_of(received: bytes) -> int | None:
    """The status of an answer; None while a part of it is still missing."""
    end = received.find(_END_OF_HEAD)
    if end < 0:
        return None
    head = received[: end + 2].lower()
    found = head.find(_LENGTH)
    length = int(head[found + len(_LENGTH) : head.index(b"\r\n", found + 2)]) if found > 0 else 0
    return int(head[9:12]) if len(received) >= end + 4 + length else None


class _Client:
    """One keep-alive connection. `since` is when the request that it waits for was due."""

    __slots__ = ("_address", "_received", "selector", "since", "socket")

    def __init__(self, address: Address, selector: selectors.BaseSelector) -> None:
        self._address = address
        self.selector = selector
        self.since = 0.0
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(self._address, timeout=_PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(self.socket, selectors.EVENT_READ, self)
        self._received = b""

    def close(self) -> None:
        self.selector.unregister(self.socket)
        self.socket.close()

    def send(self, request: bytes, due: float) -> None:
        self.since = due
        with suppress(OSError):  # a connection that is gone is found out when reading
            self.socket.sendall(request)

    def receive(self) -> int | None:
        """The status, LOST, or None while a part is missing."""
        try:
            received = self.socket.recv(65536)
        except OSError:
            received = b""
        if not received:
            self.close()
            self.connect()
            return LOST
        self._received = received = self._received + received if self._received else received
        status = status_of(received)
        if status is not None:
            self._received = b""
            if b"\r\nConnection: close\r\n" in received:
                self.close()
                self.connect()
        return status


def run(
    address: Address,
    requests: Iterator[bytes],
    clients: int,
    *,
    seconds: float = 60.0,
    most: int | None = None,
    rate: float | None = None,
) -> Load:
    """Send requests for so many seconds, `most` of them at most. With a `rate` the loop is open."""
    selector = selectors.DefaultSelector()
    idle = deque(_Client(address, selector) for _ in range(clients))
    load = Load()
    clock, sent, waiting = time.perf_counter, 0, 0
    enough = most if most is not None else 1 << 62
    cpu, start = time.process_time(), clock()
    stop = start + seconds
    while True:
        now = clock()
        pause = stop + _PATIENCE - now
        while idle and now < stop and sent < enough:
            due = start + sent / rate if rate else now
            if due > now:
                pause = due - now
                break
            client = idle.popleft()
            client.send(next(requests), due)
            sent += 1
            waiting += 1
        if (not waiting and (now >= stop or sent >= enough)) or pause <= 0:
            break
        for key, _ in selector.select(pause):
            client = key.data
            status = client.receive()
            if status is None:
                continue
            now = clock()
            load.statuses[status] += 1
            waiting -= 1
            took = now - client.since
            load.slowest = max(load.slowest, took)
            if 200 <= status < 300:
                load.latencies.append(took)
                load.in_time += now <= stop
            idle.append(client)
    if waiting:
        load.statuses[LOST] += waiting
    load.seconds = min(clock(), stop) - start
    load.cpu = time.process_time() - cpu
    for key in list(selector.get_map().values()):
        key.data.close()
    selector.close()
    return load
