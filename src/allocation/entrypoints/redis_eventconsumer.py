"""Takes in what other systems say over Redis pub/sub."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from threading import Event

import redis

from allocation.bootstrap import Service
from allocation.domain.model import DomainError
from allocation.validation import CHANGE_BATCH_QUANTITY, BadInput
from messaging.envelope import Metadata
from messaging.errors import Unavailable
from messaging.sql.dead_letters import DeadMessage
from messaging.sql.exclusive import Occupied

log = logging.getLogger(__name__)

CHANGE_BATCH_QUANTITY_CHANNEL = "change_batch_quantity"
_LISTEN = 0.5
_RECONNECT = 0.2
_LOOK_AGAIN = 0.5


def run(service: Service, stop: Event) -> None:
    """Handle messages one after another, in the order sent, until told to stop.

    Of several consumers one has the bridge and listens; when it is gone another has it within a second.
    """
    while not stop.is_set():
        try:
            if service.bridge.is_ours():
                for body in messages(service.redis, stop):
                    handle_until_settled(service, body, stop)
        except Occupied:
            log.warning("another consumer has the bridge now")
        except Unavailable as error:
            log.warning("the database is away", extra={"error": str(error)})
        stop.wait(_LOOK_AGAIN)


def messages(client: redis.Redis, stop: Event) -> Iterator[bytes]:
    """The messages of the channel; listens again when Redis comes back. What was said meanwhile pub/sub forgets."""
    while not stop.is_set():
        try:
            with client.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
                pubsub.subscribe(CHANGE_BATCH_QUANTITY_CHANNEL)
                log.info("listening", extra={"channel": CHANGE_BATCH_QUANTITY_CHANNEL})
                while not stop.is_set():
                    if message := pubsub.get_message(timeout=_LISTEN):
                        yield message["data"]
        except redis.RedisError as error:
            log.warning("redis is away", extra={"error": str(error)})
            stop.wait(_RECONNECT)


def handle_until_settled(service: Service, body: bytes, stop: Event) -> None:
    """Handle a message, or keep it as a dead letter; wait for the database as long as it takes, since pub/sub will not
    say it again. Raises Occupied when another consumer has the bridge."""
    pause = 0.1
    while not stop.is_set():
        try:
            handle(service, body)
        except Occupied:
            raise  # whoever has the bridge now has heard the message too
        except Unavailable as error:
            log.warning("will try again", extra={"error": str(error)})
            stop.wait(pause)
            pause = min(pause * 2, 5.0)
        else:
            return


def handle(service: Service, body: bytes) -> None:
    """Handle one message; what can't be read, is refused or fails becomes a dead letter. Raises Unavailable."""
    try:
        command = CHANGE_BATCH_QUANTITY.read_json(body)
        service.bridge.bus.handle(command, Metadata.first("redis"))
    except Unavailable:
        raise
    except (BadInput, DomainError) as error:
        log.warning("refused", extra={"channel": CHANGE_BATCH_QUANTITY_CHANNEL, "error": str(error)})
        service.dead_letters.bury(source=CHANGE_BATCH_QUANTITY_CHANNEL, body=body, reason=str(error))
    except Exception as error:
        log.exception("a fault in the program", extra={"channel": CHANGE_BATCH_QUANTITY_CHANNEL})
        service.dead_letters.bury(source=CHANGE_BATCH_QUANTITY_CHANNEL, body=body, reason=repr(error))
    else:
        log.info("handled", extra={"channel": CHANGE_BATCH_QUANTITY_CHANNEL, "command": repr(command)})


def retry(service: Service, letter: DeadMessage) -> str | None:
    """Handle a dead message after all, once however often this is tried; the reason when it is refused again.

    Raises Unavailable.
    """
    try:
        command = CHANGE_BATCH_QUANTITY.read_json(letter.body)
        message_id = f"dead-letter:{letter.number}:{letter.attempts}"
        service.bus.handle(command, Metadata.first("dead-letters"), message_id)
    except (BadInput, DomainError) as error:
        service.dead_letters.fail_again(letter, str(error))
        return str(error)
    service.dead_letters.settle_message(letter)
    return None
