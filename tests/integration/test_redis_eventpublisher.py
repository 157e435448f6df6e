"""What other systems hear of an allocation: exactly this, on this channel, or an error that says to try again."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from allocation.adapters.redis_channels import event_stream
from allocation.adapters.redis_eventpublisher import RedisEventPublisher
from allocation.bootstrap import Service
from allocation.config import EVENTS_STAY
from allocation.domain import commands
from allocation.domain.events import Allocated, Event
from allocation.service_layer.routing import PUBLISH_EVENT
from messaging.envelope import Delivery, Metadata, Recorded
from messaging.errors import Unavailable
from messaging.redis.client import redis_client

Sql = Callable[..., list[tuple[Any, ...]]]

RECORDED: Recorded[Event] = Recorded(
    "LAMP",
    7,
    Allocated(orderid="o1", sku="LAMP", qty=3, batchref="b1", lineid="line-1"),
    Metadata("m-7", "c-1", "m-6", "http", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), "api_key:shop"),
)


def publish(client: redis.Redis, recorded: Recorded[Event] = RECORDED, token: int = 1) -> None:
    """As the first of its SKU that Redis is told, and again."""
    assert RedisEventPublisher(event_stream(client, EVENTS_STAY)).publish([Delivery(recorded, 0, token)]) == {}


class Listener:
    """Another system, subscribed to the channel."""

    def __init__(self, client: redis.Redis) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._pubsub.subscribe("line_allocated")
        assert self._pubsub.get_message(timeout=10) is None, "only the confirmation, which is ignored"

    def hears(self) -> bytes:
        message = self._pubsub.get_message(timeout=10)
        assert message, "nothing was published"
        body = message["data"]
        assert isinstance(body, bytes)
        return body

    def close(self) -> None:
        self._pubsub.close()


@pytest.fixture
def listener(redis_server: redis.Redis) -> Iterator[Listener]:
    listener = Listener(redis_server)
    yield listener
    listener.close()


def test_publishes_exactly_what_was_promised_to_other_systems(redis_url: str, listener: Listener) -> None:
    with redis_client(redis_url) as client:
        publish(client)

    assert json.loads(listener.hears()) == {
        "orderid": "o1",
        "sku": "LAMP",
        "qty": 3,
        "batchref": "b1",
        "lineid": "line-1",
        "metadata": {
            "id": "m-7",
            "correlation_id": "c-1",
            "causation_id": "m-6",
            "principal": "api_key:shop",
            "source": "http",
            "time": "2026-01-02T03:04:05.678901+00:00",
        },
    }


def test_several_are_heard_in_their_order(redis_url: str, listener: Listener) -> None:
    events = [replace(RECORDED, version=version, metadata=Metadata.first("http")) for version in (7, 8, 9)]
    deliveries = [Delivery(event, event.version - 1 if event.version > 7 else 0, 1) for event in events]

    with redis_client(redis_url) as client:
        assert RedisEventPublisher(event_stream(client, EVENTS_STAY)).publish(deliveries) == {}

    assert [json.loads(listener.hears())["metadata"]["id"] for _ in events] == [one.metadata.id for one in events]


def test_any_name_arrives_as_it_was_written(redis_url: str, listener: Listener) -> None:
    name = 'Sofa „Ö” 🛋 \\ " \u2028 \u202eעברית\u202c'
    event = Allocated(orderid=name, sku=name, qty=1, batchref=name, lineid=name)

    with redis_client(redis_url) as client:
        publish(client, Recorded(name, 1, event, RECORDED.metadata))

    body = listener.hears()
    assert {json.loads(body)[field] for field in ("orderid", "sku", "batchref", "lineid")} == {name}
    assert "🛋".encode() in body, "readable, not escaped"


def test_what_is_published_is_what_was_recorded(service: Service, listener: Listener, sql: Sql) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    service.bus.handle(commands.Allocate("o1", "LAMP", 3), Metadata.first("http", correlation_id="request-1"))

    service.relay.deliver(PUBLISH_EVENT)

    heard = json.loads(listener.hears())
    [(event_id,)] = sql("SELECT id::text FROM event_log WHERE version = 2")
    assert (heard["orderid"], heard["lineid"], heard["batchref"]) == ("o1", "LAMP", "b1")
    assert (heard["metadata"]["id"], heard["metadata"]["correlation_id"]) == (event_id, "request-1")


def test_a_connection_that_was_cut_is_made_again(redis_url: str, redis_server: redis.Redis, listener: Listener) -> None:
    with redis_client(redis_url) as client:
        publish(client)
        redis_server.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]

        publish(client)

    assert listener.hears() == listener.hears()


def test_redis_that_is_down_is_told_at_once() -> None:
    with redis_client("redis://127.0.0.1:1/0") as client:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="redis"):
            publish(client)

        assert time.monotonic() - begun < 2


def test_redis_that_hangs_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with redis_client(f"redis://127.0.0.1:{port}/0?socket_timeout=0.2") as client:
            begun = time.monotonic()
            with pytest.raises(Unavailable, match="redis"):
                publish(client)

            assert time.monotonic() - begun < 5


def test_no_client_of_ours_waits_for_ever(redis_url: str) -> None:
    with redis_client(redis_url) as client:
        limits = client.connection_pool.connection_kwargs

    assert 0 < limits["socket_connect_timeout"] <= 5
    assert 0 < limits["socket_timeout"] <= 5


def test_a_wrong_password_is_a_fault_of_the_surroundings(redis_url: str) -> None:
    with (
        redis_client(redis_url.replace("redis://:", "redis://:wrong-")) as client,
        pytest.raises(Unavailable, match="redis"),
    ):
        publish(client)
