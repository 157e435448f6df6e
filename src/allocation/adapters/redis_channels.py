"""Where we speak and listen on Redis. Others know these names: never change one."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import redis

from messaging.redis.event_stream import EventStream
from messaging.redis.group import ConsumerGroup

EVENTS = "allocation.events"
LINE_ALLOCATED = "line_allocated"
COMMANDS = "allocation.commands"
COMMAND_FIELD = "command"
REPLIES = "name.replies"
"""With a name that whoever sends a command chooses."""
CHANGE_BATCH_QUANTITY = "change_batch_quantity"
GROUP = "allocation"

BRIDGE_LOCK = "the bridge"
COMMAND_STREAM_LOCK = "the command stream"
"""What one consumer at a time holds, to listen to the channel and to read the stream."""

REPLIES_STAY = timedelta(hours=12)
COMMANDS_STAY = timedelta(hours=12)  # less than the inbox remembers them: read again, they are known


def event_stream(client: redis.Redis, keep: timedelta) -> EventStream:
    return EventStream(client, EVENTS, keep)


def command_group(client: redis.Redis) -> ConsumerGroup:
    consumer = f"{socket.gethostname()}:{os.getpid()}"
    return ConsumerGroup(
        client, stream=COMMANDS, field=COMMAND_FIELD, group=GROUP, consumer=consumer, keep=COMMANDS_STAY
    )
