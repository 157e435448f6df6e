"""Takes in what other systems say over Redis: commands from a stream, and quantity changes over pub/sub."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Event
from uuid import uuid4

from allocation.adapters import redis_channels
from allocation.bootstrap import Service
from allocation.entrypoints import redis_commands
from allocation.entrypoints.inbound import REFUSED, Stuck, read, until_possible
from allocation.entrypoints.leadership import AWAY, run_as_leader
from allocation.entrypoints.memory import settle_memory
from allocation.entrypoints.tasks import run_until_one_ends
from messaging.correlation import WORKING_ON, working_on
from messaging.errors import RequestInProgress, Unavailable, UnreadableMessage
from messaging.loops import StatusLog
from messaging.redis.client import redis_faults
from messaging.redis.listening import Listening, Superseded
from messaging.sql.exclusive import Occupied, reacquire_only_if

log = logging.getLogger(__name__)

_LISTEN = 0.5
_LONGEST_PAUSE = 0.2
"""Less than others wait until they look: who has heard something gets the bridge back, usually."""


def run(service: Service, stop: Event) -> None:
    """Take in all of it until stopped, or until a task of it dies; raises what of."""
    settle_memory()
    run_until_one_ends(stop, listener=partial(listen, service), commands=partial(redis_commands.run, service))


def listen(service: Service, stop: Event) -> None:
    """Handle what is published over pub/sub, one message after another, in the order sent.

    Of several consumers one has the bridge and listens; when it is gone another has it within a second.
    """
    status = StatusLog(log)

    def work() -> None:
        with redis_faults():
            _listen_while_ours(service, stop, status)

    run_as_leader(service.pubsub_bus, redis_channels.BRIDGE_LOCK, work, stop, status)


def _listen_while_ours(service: Service, stop: Event, status: StatusLog) -> None:
    """Until another has it. Whatever was heard before that one listened is handled or kept by us, the rest is its."""
    with (
        Listening(service.redis, redis_channels.CHANGE_BATCH_QUANTITY) as channel,
        reacquire_only_if(lambda: not channel.has_been_superseded()),
    ):
        if not service.pubsub_bus.is_ours():  # still; so whoever is next begins after us, and we hear of it
            return
        channel.begin()
        status(logging.INFO, "listening", channel=redis_channels.CHANGE_BATCH_QUANTITY)
        with suppress(Superseded):
            while not stop.is_set():
                body = channel.next(_LISTEN)
                if body is not None:
                    _settle(service, body, stop)
                elif not channel.has_kept_some and not _is_still_ours(service, status):
                    return
            channel.hear_out()  # who says something while we are stopping knows nothing of it
            while channel.has_kept_some:
                if (body := channel.next(0)) is not None:
                    _settle(service, body, stop)


def _is_still_ours(service: Service, status: StatusLog) -> bool:
    """Whether nobody else has it; while the database is away nobody can, and we listen on."""
    try:
        ours = service.pubsub_bus.is_ours()
    except Unavailable as error:
        status(logging.WARNING, AWAY, error=str(error))
        return True
    if ours:
        status(logging.INFO, "listening", channel=redis_channels.CHANGE_BATCH_QUANTITY)
    return ours


@working_on("")  # until it is read
def _settle(service: Service, body: bytes, stop: Event) -> None:
    """See to it that one message is handled or kept; what is neither is in the log."""
    received = f"{redis_channels.CHANGE_BATCH_QUANTITY} {uuid4()}"
    about = {"channel": redis_channels.CHANGE_BATCH_QUANTITY}

    def attempt() -> None:
        if not service.pubsub_bus.is_ours():  # one try to get it back, where the bus would make hundreds
            raise Occupied("another consumer has the bridge now")
        handle(service, body, received)

    try:
        done, reason = False, ""
        try:
            done = until_possible(attempt, stop, longest_pause=_LONGEST_PAUSE)
        except Occupied:
            reason = "the bridge was taken over before this was handled"
        except Stuck as stuck:
            reason = str(stuck)
        if reason:
            log.warning("given up", extra=about | {"error": reason})
            done = until_possible(partial(_keep, service, body, reason, received), stop)
        if not done:
            log.error("stopped before it could be handled", extra=about | {"body": repr(body)})
    except Exception:
        log.exception("lost: neither handled nor kept", extra=about | {"body": repr(body)})


def _keep(service: Service, body: bytes, reason: str, received: str) -> None:
    """Make it a dead letter, unless it took effect after all: the answer to its COMMIT may have been lost."""
    with suppress(UnreadableMessage):
        request = replace(read(redis_channels.CHANGE_BATCH_QUANTITY, body), message_id=received)
        outcome = service.bus.recall(request)
        if outcome and not outcome.refusal:
            return
    _store(service, body, reason)


def handle(service: Service, body: bytes, message_id: str | None = None) -> None:
    """Handle one message; what can't be read, is refused or fails becomes a dead letter. Raises Unavailable.

    With a `message_id` it is safe to repeat.
    """
    try:
        request = read(redis_channels.CHANGE_BATCH_QUANTITY, body)
        WORKING_ON.set(request.metadata.correlation_id)
        service.pubsub_bus.handle(request.command, request.metadata, message_id)
    except (Unavailable, RequestInProgress):
        raise
    except REFUSED as error:
        log.warning("refused", extra={"channel": redis_channels.CHANGE_BATCH_QUANTITY, "error": str(error)})
        _store(service, body, str(error))
    except Exception as error:
        log.exception("a fault in the program", extra={"channel": redis_channels.CHANGE_BATCH_QUANTITY})
        _store(service, body, repr(error))
    else:
        log.info("handled", extra={"channel": redis_channels.CHANGE_BATCH_QUANTITY, "command": repr(request.command)})


def _store(service: Service, body: bytes, reason: str) -> None:
    service.dead_letters.store(source=redis_channels.CHANGE_BATCH_QUANTITY, body=body, reason=reason)
