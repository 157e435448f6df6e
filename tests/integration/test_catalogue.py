"""What really goes over Redis is what the catalogue says."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import redis
from jsonschema import Draft202012Validator

from allocation.adapters.redis_channels import EVENTS, LINE_ALLOCATED
from allocation.bootstrap import Service
from allocation.catalogue import history
from allocation.domain import commands
from allocation.service_layer.routing import PUBLISH_EVENT
from messaging.envelope import Metadata

PUBLISHED = history.published()

EVERYTHING_ELSE: list[commands.Command] = [
    commands.CreateBatch("b2", "LÄMP", 20, date(2031, 1, 1), date(2031, 5, 1)),
    commands.ChangeEta("b2", date(2031, 2, 1)),
    commands.ReceiveBatch("b2", "r-1", 15, 2, None, commands.Rest("b3", date(2031, 3, 1))),
    commands.CountBatch("b2", 12, 13, "c-1", "lost"),
    commands.ReleaseQuarantine("b2", 1, "q-1"),
    commands.WriteOff("b2", 1, "damaged", "w-1"),
    commands.Allocate("o2", "LÄMP", 5),
    commands.Dispatch("o2", "d-1", (commands.ParcelLine("LÄMP", 3),)),
    commands.ReturnLine("o2", "LÄMP", 1, "r-1", "check"),
    commands.CancelOrder("o2"),
    commands.PlaceOrder("o3", (commands.OrderedLine("LÄMP", 1_000),), "backorder", 9, date(2031, 1, 15)),
    commands.PlaceHold("cart-9", "LÄMP", 1, 60),
    commands.ExtendHold("cart-9", "LÄMP", 600),
    commands.VoidHold("cart-9", "LÄMP"),
    commands.CreateBatch("b4", "LÄMP", 20, date(2001, 1, 1)),
    commands.CreateBatch("b5", "LÄMP", 20, None, date(2001, 1, 1)),
    commands.ApplyDueDates("LÄMP", ("b4", "b5")),
]


def test_each_kind_of_message_is_of_its_published_schema(service: Service, redis_server: redis.Redis) -> None:
    listener = redis_server.pubsub()  # type: ignore[no-untyped-call]  # redis-py does not say
    listener.subscribe(LINE_ALLOCATED)
    assert listener.get_message(timeout=10), "not subscribed"
    for command in (
        commands.CreateBatch("b1", "LÄMP", 10),
        commands.Allocate("o1", "LÄMP", 10, "line-1"),
        commands.ChangeBatchQuantity("b1", 9),
        *EVERYTHING_ELSE,
        commands.ReportShortages("LÄMP", 1, ("LÄMP: order o1, line line-1, asked for 10",)),
    ):
        service.bus.handle(command, Metadata.first("http", "request-1"))
    while service.relay.deliver(PUBLISH_EVENT):
        pass

    entries: Any = redis_server.xrange(EVENTS)
    said = [json.loads(fields[b"event"]) for _, fields in entries]
    spoken = listener.get_message(timeout=10)
    listener.close()

    for event in said:
        Draft202012Validator(PUBLISHED[event["type"]]).validate(event)
    assert {event["type"] for event in said} == {
        name for name, schema in PUBLISHED.items() if schema["x-channel"] == EVENTS
    }
    assert isinstance(spoken, dict), "nothing was said"
    Draft202012Validator(PUBLISHED[LINE_ALLOCATED]).validate(json.loads(spoken["data"]))
