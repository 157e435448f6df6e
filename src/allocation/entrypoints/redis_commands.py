"""Takes in commands from the Redis stream `allocation.commands`, in its order, each once.

Of several consumers one is at work; when it is gone another takes over, with what was read and not acknowledged.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from functools import partial
from threading import Event

from allocation.adapters import redis_channels
from allocation.bootstrap import Service
from allocation.entrypoints.inbound import REFUSED, Stuck, read, until_possible
from allocation.entrypoints.leadership import run_as_leader
from messaging.correlation import WORKING_ON, working_on
from messaging.envelope import Request
from messaging.errors import UnreadableMessage
from messaging.loops import StatusLog
from messaging.redis.group import Entry
from messaging.sql.exclusive import Occupied

log = logging.getLogger(__name__)

MOST_TRIES = 5
"""So often is a message read that ends in a fault of the program, or ends the program. Then it is a dead letter."""

MOST_TOGETHER = 50
"""So many messages share a transaction at most, and fewer while others write the same products: who holds many
products for long loses to those who hold one for a moment."""

_AT_FIRST = 8
_LISTEN = 0.5
_PAUSE_AFTER_A_FAULT = 0.2
_TRIM_EVERY = 60.0


def run(service: Service, stop: Event) -> None:
    """Handle commands until told to stop."""
    status = StatusLog(log)

    def work() -> None:
        _take_over(service)
        status(logging.INFO, "reading", stream=redis_channels.COMMANDS)
        _work(service, stop)

    run_as_leader(service.command_bus, "the command stream", work, stop, status)


def _take_over(service: Service) -> None:
    lost = service.command_group.take_over()
    for entry in lost:
        _store(service, entry, "deleted from the stream before it was handled")


def _work(service: Service, stop: Event) -> None:
    group = service.command_group
    some_are_pending = True  # whoever was here before us may have died of one of them: so one by one
    together = _AT_FIRST
    trim_at = 0.0
    while not stop.is_set():
        if time.monotonic() >= trim_at:
            group.trim()
            trim_at = time.monotonic() + _TRIM_EVERY
        if some_are_pending:
            entry = group.first_pending()
            some_are_pending = entry is not None
            if entry and not _handle_one(service, entry, stop):
                stop.wait(_PAUSE_AFTER_A_FAULT)
            continue
        entries = group.new(together, _LISTEN)
        if group.others_hold_some():  # it is older than these: so all that is pending, in its order
            _take_over(service)
            some_are_pending = True
        elif entries:
            some_are_pending = not _handle_together(service, entries)
            together = max(1, len(entries) // 2) if some_are_pending else min(together + 2, MOST_TOGETHER)
        elif not service.command_bus.is_ours():
            raise Occupied("another consumer came while there was nothing to do")


def _handle_together(service: Service, entries: Sequence[Entry]) -> bool:
    """Handle entries in one transaction and acknowledge them; False, and nothing of it, if that can't be."""
    requests: list[tuple[Entry, Request]] = []
    refused: list[tuple[Entry, str, str]] = []
    for entry in entries:
        try:
            requests.append((entry, _read(entry)))
        except UnreadableMessage as error:
            refused.append((entry, str(error), ""))
    try:
        outcomes = service.command_bus.handle_together([request for _, request in requests])
    except Occupied:
        raise
    except Exception as error:  # noqa: BLE001 - alone, each gets what is its own
        log.warning("not all together", extra={"stream": redis_channels.COMMANDS, "error": str(error)})
        return False
    for (entry, request), outcome in zip(requests, outcomes, strict=True):
        if outcome.refusal:
            refused.append((entry, str(outcome.refusal), request.metadata.correlation_id))
    for entry, reason, correlation_id in refused:
        with working_on(correlation_id):
            _store(service, entry, reason)
    service.command_group.acknowledge(entries)
    correlation_ids = list(dict.fromkeys(request.metadata.correlation_id for _, request in requests))
    about = {"messages": len(entries), "refused": len(refused), "correlation_ids": correlation_ids}
    log.info("handled", extra={"stream": redis_channels.COMMANDS} | about)
    return True


@working_on("")  # until its message is read
def _handle_one(service: Service, entry: Entry, stop: Event) -> bool:
    """Handle an entry, or keep it as a dead letter, and acknowledge it; False if it stays pending."""
    try:
        done = until_possible(partial(_settle, service, entry), stop)
    except Occupied:
        raise
    except Exception as error:
        about = {"stream": redis_channels.COMMANDS, "entry": entry.id, "tries": entry.tries}
        if isinstance(error, Stuck):
            log.error(str(error), extra=about)  # noqa: TRY400 - nothing is wrong with the program
        else:
            log.exception("a fault in the program", extra=about)
        if entry.tries < MOST_TRIES:
            return False
        reason = str(error) if isinstance(error, Stuck) else repr(error)
        done = until_possible(partial(_store, service, entry, reason), stop)
    if done:
        service.command_group.acknowledge([entry])
    return done


def _settle(service: Service, entry: Entry) -> None:
    try:
        request = _read(entry)
        WORKING_ON.set(request.metadata.correlation_id)
        if entry.tries <= MOST_TRIES:
            service.command_bus.handle(request.command, request.metadata, request.message_id)
        elif outcome := service.command_bus.recall(request):  # it took effect, and only that was not told
            outcome.unwrap()
        else:
            _store(service, entry, f"read {entry.tries} times and never acknowledged")
    except REFUSED as error:
        _store(service, entry, str(error))


def _read(entry: Entry) -> Request:
    if entry.body is None:
        raise UnreadableMessage("the entry was deleted, or has no field `command`")
    return read(redis_channels.COMMANDS, entry.body)


def _store(service: Service, entry: Entry, reason: str) -> None:
    log.warning("refused", extra={"stream": redis_channels.COMMANDS, "entry": entry.id, "error": reason})
    service.dead_letters.store(
        source=redis_channels.COMMANDS, message_id=entry.id, body=_content(entry), reason=reason, attempts=entry.tries
    )


def _content(entry: Entry) -> bytes:
    """All that a person may want to see of it."""
    if entry.body is not None or not entry.others:
        return entry.body or b""
    said = {_text(name): _text(value) for name, value in entry.others.items()}
    return json.dumps(said, ensure_ascii=False).encode()


def _text(given: bytes) -> str:
    return given.decode(errors="backslashreplace")
