"""Takes in what other systems say over Redis: commands from a stream, and quantity changes over pub/sub."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from threading import Event

import redis

from allocation.adapters import redis_channels
from allocation.bootstrap import Service
from allocation.entrypoints import redis_commands
from allocation.entrypoints.inbound import REFUSED, read, until_possible
from allocation.entrypoints.memory import settle_memory
from allocation.entrypoints.tasks import run_until_one_ends
from messaging.correlation import WORKING_ON, working_on
from messaging.errors import StillRunning, Unavailable
from messaging.sql.exclusive import Occupied

log = logging.getLogger(__name__)

_LISTEN = 0.5
_RECONNECT = 0.2
_LOOK_AGAIN = 0.5


def run(service: Service, stop: Event) -> None:
    """Take in all of it until told to stop, or until a task of it dies; raises what of."""
    settle_memory()
    run_until_one_ends(stop, listener=partial(listen, service), commands=partial(redis_commands.run, service))


def listen(service: Service, stop: Event) -> None:
    """Handle what is said over pub/sub, one message after another, in the order sent.

    Of several consumers one has the bridge and listens; when it is gone another has it within a second.
    """
    while not stop.is_set():
        try:
            if service.pubsub_bus.is_ours():
                for body in messages(service.redis, stop):
                    _settle(service, body, stop)
        except Occupied:  # whoever has the bridge now has heard the message too
            log.warning("another consumer has the bridge now")
        except Unavailable as error:
            log.warning("the database is away", extra={"error": str(error)})
        except Exception:
            log.exception("the listener failed, and goes on")
        stop.wait(_LOOK_AGAIN)


def messages(client: redis.Redis, stop: Event) -> Iterator[bytes]:
    """The messages of the channel; listens again when Redis comes back. What was said meanwhile pub/sub forgets."""
    while not stop.is_set():
        try:
            with client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
                pubsub.subscribe(redis_channels.CHANGE_BATCH_QUANTITY)
                log.info("listening", extra={"channel": redis_channels.CHANGE_BATCH_QUANTITY})
                while not stop.is_set():
                    if message := pubsub.get_message(timeout=_LISTEN):
                        yield message["data"]
        except redis.RedisError as error:
            log.warning("redis is away", extra={"error": str(error)})
            stop.wait(_RECONNECT)


@working_on("")  # until it is read
def _settle(service: Service, body: bytes, stop: Event) -> None:
    """See to it that one message is handled or kept; what is neither is in the log. Raises Occupied."""
    try:
        if not until_possible(partial(handle, service, body), stop):
            log.error("stopped before it could be handled", extra={"body": repr(body)})
    except Occupied:
        raise
    except Exception:
        log.exception("lost: neither handled nor kept", extra={"body": repr(body)})


def handle(service: Service, body: bytes) -> None:
    """Handle one message; what can't be read, is refused or fails becomes a dead letter. Raises Unavailable."""
    try:
        request = read(redis_channels.CHANGE_BATCH_QUANTITY, body)
        WORKING_ON.set(request.metadata.correlation_id)
        service.pubsub_bus.handle(request.command, request.metadata)
    except (Unavailable, StillRunning):
        raise
    except REFUSED as error:
        log.warning("refused", extra={"channel": redis_channels.CHANGE_BATCH_QUANTITY, "error": str(error)})
        service.dead_letters.bury(source=redis_channels.CHANGE_BATCH_QUANTITY, body=body, reason=str(error))
    except Exception as error:
        log.exception("a fault in the program", extra={"channel": redis_channels.CHANGE_BATCH_QUANTITY})
        service.dead_letters.bury(source=redis_channels.CHANGE_BATCH_QUANTITY, body=body, reason=repr(error))
    else:
        log.info("handled", extra={"channel": redis_channels.CHANGE_BATCH_QUANTITY, "command": repr(request.command)})
