"""The service as those outside see it: routes, channels and streams, and nothing else."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import redis
import requests
from redis.client import PubSub
from tests.e2e.waiting import PATIENCE

CHANGE_BATCH_QUANTITY = "change_batch_quantity"
LINE_ALLOCATED = "line_allocated"
COMMANDS = "allocation.commands"
EVENTS = "allocation.events"


def random_sku(name: str = "") -> str:
    return f"sku-{name}-{_random()}"


def random_batchref(name: str = "") -> str:
    return f"batch-{name}-{_random()}"


def random_orderid(name: str = "") -> str:
    return f"order-{name}-{_random()}"


def _random() -> str:
    return uuid4().hex[:8]  # `random` begins anew with each test


class Client:
    """Threads may share it. Every request has a connection of its own, so none is left to break when servers die."""

    def __init__(self, url: str, redis_url: str) -> None:
        self.url = url
        self._redis_url = redis_url

    @property
    def redis_url(self) -> str:
        return self._redis_url

    def add_batch(self, ref: str, sku: str, qty: int, eta: str | None = None) -> None:
        answer = self._ask("POST", "/add_batch", {"ref": ref, "sku": sku, "qty": qty, "eta": eta})
        assert (answer.status_code, answer.text) == (201, "OK")

    def allocate(self, orderid: str, sku: str, qty: int = 1, **further: str) -> None:
        answer = self.try_to_allocate(orderid, sku, qty, **further)
        assert (answer.status_code, answer.text) == (202, "OK")

    def try_to_allocate(
        self, orderid: str, sku: str, qty: int = 1, key: str | None = None, request_id: str = "", **further: str
    ) -> requests.Response:
        """With a key as JSON, so that the whole outcome is in the answer."""
        headers = {"Idempotency-Key": key, "Accept": "application/json"} if key else {}
        headers |= {"X-Request-ID": request_id} if request_id else {}
        return self._ask("POST", "/allocate", {"orderid": orderid, "sku": sku, "qty": qty} | further, headers)

    def allocations(self, orderid: str) -> list[dict[str, str]]:
        answer = self._ask("GET", f"/allocations/{quote(orderid, safe='')}")
        if answer.status_code == 404:
            assert answer.text == "not found"
            return []
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def ask_raw(self, *head: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON body of the answer to these lines, which need not be HTTP."""
        where = urlsplit(self.url)
        with socket.create_connection((where.hostname, where.port), timeout=PATIENCE) as connection:
            connection.sendall("\r\n".join([*head, "", ""]).encode())
            answer = HTTPResponse(connection)
            answer.begin()
            return answer.status, json.loads(answer.read())

    def batches_of(self, orderid: str) -> list[str]:
        """Where the order's lines are, in the order in which they were allocated."""
        return [line["batchref"] for line in self.allocations(orderid)]

    def change_batch_quantity(self, ref: str, qty: int) -> None:
        self.say(CHANGE_BATCH_QUANTITY, json.dumps({"batchref": ref, "qty": qty}).encode())

    def say(self, channel: str, body: bytes) -> None:
        with redis.Redis.from_url(self._redis_url) as connection:
            assert connection.publish(channel, body), f"nobody listens to {channel}"

    def metrics(self) -> dict[str, float]:
        """Each series with its labels, as Prometheus reads it from whichever worker answers."""
        answer = self._ask("GET", "/metrics")
        assert answer.status_code == 200, answer.text
        series = (line.rpartition(" ") for line in answer.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in series}

    def send(self, kind: str, correlationid: str = "", **data: Any) -> None:
        """Add a command to the stream."""
        event = {"specversion": "1.0", "id": uuid4().hex, "source": "/tests", "type": f"allocation.{kind}.v1"}
        event |= {"correlationid": correlationid} if correlationid else {}
        with redis.Redis.from_url(self._redis_url) as connection:
            connection.xadd(COMMANDS, {"command": json.dumps(event | {"data": data})})

    def events(self, sku: str) -> list[dict[str, Any]]:
        """What the stream tells of a product, in its order."""
        with redis.Redis.from_url(self._redis_url) as connection:
            entries: Any = connection.xrange(EVENTS)
        told = [json.loads(fields[b"event"]) for _, fields in entries]
        return [event for event in told if event["subject"] == sku]

    def pending(self, group: str) -> int:
        """How many events this group has read and not acknowledged."""
        with redis.Redis.from_url(self._redis_url) as connection:
            return int(connection.xpending(EVENTS, group)["pending"])

    def forget_group(self, group: str) -> None:
        """As Redis does when it loses its data."""
        with redis.Redis.from_url(self._redis_url) as connection:
            connection.xgroup_destroy(EVENTS, group)

    @contextmanager
    def listening(self, *skus: str) -> Iterator[Append]:
        """Hear every `line_allocated` of these products from now on."""
        with (
            redis.Redis.from_url(self._redis_url) as connection,
            connection.pubsub() as pubsub,
        ):
            pubsub.subscribe(LINE_ALLOCATED)
            confirmation = pubsub.get_message(timeout=PATIENCE)
            assert confirmation["type"] == "subscribe"
            yield Append(pubsub, skus)

    def is_ready(self) -> bool:
        """The API is, and so are its surroundings."""
        try:
            answer = self._ask("GET", "/readyz")
        except requests.ConnectionError:
            return False
        return answer.status_code == 200 and answer.json()["status"] == "ready"

    def takes_connections(self) -> bool:
        where = urlsplit(self.url)
        try:
            socket.create_connection((where.hostname, where.port), timeout=1).close()
        except OSError:
            return False
        return True

    def is_listened_to(self) -> bool:
        """Somebody takes in quantity changes."""
        try:
            with redis.Redis.from_url(self._redis_url) as connection:
                return bool(connection.pubsub_numsub(CHANGE_BATCH_QUANTITY)[0][1])
        except redis.RedisError:
            return False

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False  # no proxy is between us
            return session.request(method, self.url + path, json=body, headers=headers, timeout=PATIENCE)


class Append:
    """What is heard on `line_allocated`, each message once: a repeat has the same id."""

    def __init__(self, pubsub: PubSub, skus: Collection[str]) -> None:
        self._pubsub = pubsub
        self._skus = skus
        self._heard: set[str] = set()

    def next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if message := self._pubsub.get_message(timeout=0.1):
                said: dict[str, Any] = json.loads(message["data"])
                if said["sku"] in self._skus and said["metadata"]["id"] not in self._heard:
                    self._heard.add(said["metadata"]["id"])
                    return said
        raise AssertionError(f"not within {PATIENCE:.0f} s: {LINE_ALLOCATED} is heard of {' or '.join(self._skus)}")

    def about(self, orderid: str) -> dict[str, Any]:
        """The next message about this order, whatever else is said before."""
        while (said := self.next())["orderid"] != orderid:
            pass
        return said


def assert_works(api: Client) -> None:
    """Every part: the API takes an order, the relay tells of it, the consumer hears of a change."""
    sku, order, batch, spare = random_sku(), random_orderid(), random_batchref(), random_batchref("spare")
    with api.listening(sku) as published:
        api.add_batch(batch, sku, 10)
        api.add_batch(spare, sku, 10)
        api.allocate(order, sku, 10)
        assert published.about(order)["batchref"] == batch
        api.change_batch_quantity(batch, 0)
        assert published.about(order)["batchref"] == spare
        assert api.batches_of(order) == [spare]
