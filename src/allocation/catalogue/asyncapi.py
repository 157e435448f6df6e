"""The catalogue as an AsyncAPI 3.0 document, for tools that read such.

Source: the AsyncAPI specification 3.0.0. Its bindings for Redis have no fields yet, so what is a stream and what is a
pub/sub channel is named under `x-redis`.
"""

from __future__ import annotations

from importlib.metadata import version

from allocation.catalogue.messages import SENT, Channel, Message, by_channel
from messaging.codec import JsonObject


def document() -> JsonObject:
    channels = by_channel()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Allocation",
            "version": version("allocation"),
            "description": "What the allocation service says over Redis, and what it listens to.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "{host}",
                "protocol": "redis",
                "description": "Redis 6.2 or later, or Valkey: what `REDIS_URL` names.",
                "variables": {"host": {"default": "localhost:6379", "description": "Host and port."}},
            }
        },
        "channels": {channel.address: _channel(channel, messages) for channel, messages in channels.items()},
        "operations": {
            f"{'send' if channel.direction == SENT else 'receive'}.{channel.address}": _operation(channel, messages)
            for channel, messages in channels.items()
        },
        "components": {
            "messages": {message.name: _message(message) for messages in channels.values() for message in messages}
        },
    }


def _channel(channel: Channel, messages: list[Message]) -> JsonObject:
    return {
        "address": channel.address,
        "description": channel.promises,
        "servers": [{"$ref": "#/servers/redis"}],
        "messages": {message.name: {"$ref": f"#/components/messages/{message.name}"} for message in messages},
        "x-redis": {"type": "stream", "field": channel.field} if channel.field else {"type": "pub/sub"},
    }


def _operation(channel: Channel, messages: list[Message]) -> JsonObject:
    where = f"#/channels/{channel.address}"
    return {
        "action": "send" if channel.direction == SENT else "receive",
        "channel": {"$ref": where},
        "messages": [{"$ref": f"{where}/messages/{message.name}"} for message in messages],
    }


def _message(message: Message) -> JsonObject:
    is_cloud_event = "specversion" in message.schema["properties"]
    correlation = "/correlationid" if is_cloud_event else "/metadata/correlation_id"
    described = {
        "name": message.name,
        "title": message.name,
        "summary": message.says,
        "description": message.when,
        "contentType": "application/cloudevents+json" if is_cloud_event else "application/json",
        "payload": message.schema,
        "examples": [{"name": "example", "payload": message.example}],
    }
    if is_cloud_event or "metadata" in message.schema["properties"]:
        described["correlationId"] = {"location": f"$message.payload#{correlation}"}
    return described
