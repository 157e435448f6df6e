"""Messages from other systems: read into commands, and kept as dead letters when they can't be handled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event

from pydantic_core import from_json

from allocation.adapters import redis_channels
from allocation.bootstrap import Service
from allocation.domain.errors import DomainError
from allocation.validation import CHANGE_BATCH_QUANTITY, SCHEMAS, is_spelled_like
from messaging.cloud_events import CloudEvent
from messaging.envelope import Metadata, Request, usable_id
from messaging.errors import (
    AlreadyThere,
    ConcurrencyConflict,
    ConflictRetriesExhausted,
    MessageIdReused,
    RequestInProgress,
    Unavailable,
    UnreadableMessage,
)
from messaging.sql.dead_letters import DeadMessage
from messaging.sql.exclusive import Occupied

log = logging.getLogger(__name__)

REFUSED = (UnreadableMessage, DomainError, MessageIdReused)
"""What handling a message raises that will not get better by itself."""

_SHORTEST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_SAY_AGAIN = 60.0
_SO_OFTEN = 3
"""Each is half a second of tries."""


def read(source: str, body: bytes) -> Request:
    """The command in a message from a channel or stream. Raises UnreadableMessage."""
    if source == redis_channels.CHANGE_BATCH_QUANTITY:
        return Request(
            CHANGE_BATCH_QUANTITY.read_json(body, may_add=True), Metadata.first("redis", _correlation_in(body))
        )
    event = CloudEvent.read_json(body)
    try:
        command = _command_in(event)
    except UnreadableMessage as error:
        error.metadata = event.metadata
        raise
    return Request(command, event.metadata, event.message_id)


def _command_in(event: CloudEvent) -> object:
    if event.type not in SCHEMAS:
        raise UnreadableMessage(f"type: should be one of {', '.join(SCHEMAS)}, not {event.type!r}")
    if meant := next((name for name in event.others if is_spelled_like(name, "dry_run")), None):
        raise UnreadableMessage(f"{meant}: is a field of the stream's entry, beside the message")
    return SCHEMAS[event.type].read_fields(event.data)


def _correlation_in(body: bytes) -> str | None:
    """Where `line_allocated` has it: in a key beside the book's, and only if it can be kept."""
    metadata = from_json(body).get("metadata")
    given = metadata.get("correlation_id") if isinstance(metadata, dict) else None
    return given if usable_id(given) else None


class Stuck(Exception):
    """What stands in the way of a message is in the data and nobody's doing, so waiting does not help."""


def until_possible(attempt: Callable[[], None], stop: Event, longest_pause: float = _LONGEST_PAUSE) -> bool:
    """Try at least once, and again while database or Redis are away, as long as it takes; whether it was done at last.

    Raises Occupied when another process has come to be at work instead, and Stuck.
    """
    pause, tries, say_at = _SHORTEST_PAUSE, 0, 0.0
    in_the_way: list[str] = []
    while True:
        try:
            attempt()
        except Occupied:
            raise
        except (Unavailable, RequestInProgress, ConcurrencyConflict) as error:
            if isinstance(error.__cause__, AlreadyThere):  # who tries again sees what another made, if it can be seen
                in_the_way.append(str(error.__cause__))
                if in_the_way[-_SO_OFTEN:] == [in_the_way[-1]] * _SO_OFTEN:
                    raise Stuck(f"the same stands in its way again and again: {in_the_way[-1]}") from error
            else:
                in_the_way.clear()
            tries += 1
            if (now := time.monotonic()) >= say_at:
                log.warning("will try again", extra={"tries": tries, "error": str(error)})
                say_at = now + _SAY_AGAIN
            if stop.wait(pause):
                return False
            if not isinstance(error, ConflictRetriesExhausted):  # else others are at work, and done soon
                pause = min(pause * 2, longest_pause)
        else:
            if tries:
                log.info("possible again", extra={"tries": tries + 1})
            return True


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Why a dead message stays one: it was refused again, or its first try `is_at_work` yet."""

    reason: str
    is_at_work: bool = False


def retry(service: Service, letter: DeadMessage, principal: str | None = None) -> Unsettled | None:
    """Handle a dead message after all, once however often this is tried; None when that is done.

    What follows is put down to the `principal`, who says that it shall be. Raises Unavailable.
    """
    try:
        request = read(letter.source, letter.body)
    except UnreadableMessage:  # as the first time, when more of it was known
        service.dead_letters.fail_again(letter, letter.reason)
        return Unsettled(letter.reason)
    try:
        metadata = replace(request.metadata, principal=principal)
        anew = f"dead-letter:{letter.number}:{letter.attempts}"
        try:
            service.bus.handle(request.command, metadata, request.message_id or anew)
        except DomainError:  # its refusal is remembered under its own id, and may be out of date
            service.bus.handle(request.command, metadata, anew)
    except RequestInProgress:  # not counted: the next attempt would have another id, and another effect
        return Unsettled("its first try is still at work; retry it in a moment", is_at_work=True)
    except REFUSED as error:
        service.dead_letters.fail_again(letter, str(error))
        return Unsettled(str(error))
    service.dead_letters.resolve(letter)
    return None
