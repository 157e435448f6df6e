"""Takes in commands from the Redis stream `allocation.commands`, in its order, each once.

Of several consumers one is at work; when it is gone another takes over, with what was read and not acknowledged.

An entry is *handled* when it has taken effect, was refused or is a dead letter; the position is the last that was. That
is kept in the database, with what was handled, so that a group which Redis has lost, or that somebody has moved or
reads in, has nothing take effect again and passes nothing over. An entry is *answered* when the outcome is on the
stream that its sender named.

The stream is *intact* as long as the entry at the position is in it, as it was. Else what it holds is *in doubt*: it
may have been handled under other ids. Then each entry is handled by itself, after a look into the inbox.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from threading import Event

from allocation.adapters import redis_channels
from allocation.adapters.outcome_messages import outcome_message
from allocation.bootstrap import Service
from allocation.entrypoints.inbound import REFUSED, Stuck, read, until_possible
from allocation.entrypoints.leadership import run_as_leader
from allocation.validation import is_near
from messaging.correlation import WORKING_ON, working_on
from messaging.envelope import DryRun, Metadata, Outcome, Position, Request
from messaging.errors import Unavailable, UnreadableMessage
from messaging.loops import StatusLog
from messaging.redis.group import Entry, is_at_or_before
from messaging.sql.exclusive import Occupied

log = logging.getLogger(__name__)

MOST_TRIES = 5
"""So often is a message read that ends in a fault of the program, or ends the program. Then it is a dead letter."""

MOST_TOGETHER = 50
"""So many messages share a transaction at most, and fewer while others write the same products: who holds many
products for long loses to those who hold one for a moment."""

_REPLY_TO = b"replyto"
_DRY_RUN = b"dry_run"
_FIELDS = (redis_channels.COMMAND_FIELD, "replyto", "dry_run")
_AT_FIRST = 8
_LISTEN = 0.5
_PAUSE_AFTER_A_FAULT = 0.2
_TRIM_EVERY = 60.0


def run(service: Service, stop: Event) -> None:
    """Handle commands until stopped."""
    status = StatusLog(log)

    def work() -> None:
        handled = _take_over(service)
        status(logging.INFO, "reading", stream=redis_channels.COMMANDS)
        _work(service, stop, handled)

    run_as_leader(service.command_bus, redis_channels.COMMAND_STREAM_LOCK, work, stop, status)


def _handled(service: Service) -> Position | None:
    """How far the stream is handled, by what is stored."""
    return service.command_bus.position(redis_channels.COMMANDS)


def _take_over(service: Service) -> Position | None:
    """Returns how far the stream is handled."""
    group = service.command_group
    handled = _handled(service)
    for entry in group.take_over(handled):
        if not is_at_or_before(entry, handled):
            _store(service, entry, "deleted from the stream before it was handled")
    if not handled:
        handled = Position(redis_channels.COMMANDS, "0-0", "") if group.is_unread() else group.reached()
        if handled:
            service.command_bus.advance(handled)
    return handled


def _work(service: Service, stop: Event, handled: Position | None = None) -> None:
    group = service.command_group
    some_are_pending = True  # whoever was here before us may have died of one of them: so one by one
    together = _AT_FIRST
    trim_at = 0.0
    while not stop.is_set():
        if time.monotonic() >= trim_at:
            if group.has_others_pending():  # of what is handled or deleted, or it would be missed before
                handled, some_are_pending = _take_over(service), True
            group.trim(handled)
            trim_at = time.monotonic() + _TRIM_EVERY
        if some_are_pending:
            handled, some_are_pending = _handle_first_pending(service, handled, stop)
            continue
        entries = group.new(together, _LISTEN)
        place = group.look_at(handled) if handled else None
        was_set_back = bool(entries) and is_at_or_before(entries[0], handled)
        if was_set_back or (not (handled and entries) and group.has_others_pending(entries)):  # in their order
            handled = _take_over(service)
            some_are_pending = True
        elif place and place.has_skipped(entries):
            _go_back_to(service, place.handled)
            some_are_pending = True
        elif entries and place and place.is_in_doubt:
            some_are_pending = True
        elif entries:
            some_are_pending = not all(_handle_together(service, part) for part in _parts(entries))
            handled = handled if some_are_pending else group.position_of(entries[-1])
            together = max(1, len(entries) // 2) if some_are_pending else min(together + 2, MOST_TOGETHER)
        elif not service.command_bus.is_ours():
            raise Occupied("another consumer came while there was nothing to do")
        elif handled and handled.answered != handled.entry_id:
            handled = _all_is_answered(service, handled)
    if handled and not some_are_pending:
        _all_is_answered(service, handled)


def _handle_first_pending(service: Service, handled: Position | None, stop: Event) -> tuple[Position | None, bool]:
    """Returns how far the stream is handled then, and whether anything was pending."""
    group = service.command_group
    entry = group.first_pending()
    if entry is None:
        return handled, False
    place = group.look_at(handled) if handled and not is_at_or_before(entry, handled) else None
    if place and place.has_skipped([entry]):
        _go_back_to(service, place.handled)
    elif not _handle_one(service, entry, stop):
        stop.wait(_PAUSE_AFTER_A_FAULT)
    elif place and place.is_in_doubt:
        handled = _handled(service)
    elif place:
        handled = group.position_of(entry)
    return handled, True


def _go_back_to(service: Service, handled: Position) -> None:
    """Whoever was replaced and does not know it yet has skipped what another has handled since."""
    if not service.command_bus.is_ours():
        raise Occupied("another consumer has come, and gone on")
    service.command_group.go_back_to(handled)


def _all_is_answered(service: Service, handled: Position) -> Position:
    """Else whoever takes over would answer the last of it again."""
    try:
        service.command_bus.advance(handled)
    except Occupied:
        raise
    except Unavailable:  # tried again when there is nothing to do the next time
        return handled
    return replace(handled, answered=handled.entry_id)


def _parts(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """In their order, and dry runs by themselves: each sees what stood before it committed."""
    return (list(part) for _, part in groupby(entries, key=_is_dry_run))


def _handle_together(service: Service, entries: Sequence[Entry]) -> bool:
    """Handle entries in one transaction and acknowledge them; False, and nothing of it, if that can't be. They are all
    dry runs, or none is."""
    dry_run = _is_dry_run(entries[0])
    requests: list[tuple[Entry, Request]] = []
    answers: list[tuple[Entry, Metadata | None, Outcome]] = []
    for entry in entries:
        try:
            requests.append((entry, _read(service, entry)))
        except UnreadableMessage as error:
            answers.append((entry, error.metadata, _refused(entry, error)))
    try:
        outcomes = _outcomes(service, [request for _, request in requests], dry_run=dry_run)
    except Occupied:
        raise
    except Exception as error:  # noqa: BLE001 - alone, each gets what is its own
        log.warning("not all together", extra={"stream": redis_channels.COMMANDS, "error": str(error)})
        return False
    for (entry, request), outcome in zip(requests, outcomes, strict=True):
        answers.append((entry, request.metadata, outcome))
    refused = [answer for answer in answers if _is_dead_letter(answer[2])]
    for entry, metadata, outcome in refused:
        with working_on(metadata.correlation_id if metadata else ""):
            _store(service, entry, str(outcome.refusal))
    for answer in answers:
        _answer(service, *answer)
    if dry_run or not requests or requests[-1][0] is not entries[-1]:
        service.command_bus.advance(service.command_group.position_of(entries[-1]))
    service.command_group.acknowledge(entries)
    correlation_ids = list(dict.fromkeys(request.metadata.correlation_id for _, request in requests))
    about = {"messages": len(entries), "refused": len(refused), "correlation_ids": correlation_ids}
    log.info("dry run" if dry_run else "handled", extra={"stream": redis_channels.COMMANDS} | about)
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
        done = until_possible(partial(_finish, service, entry, None, _refused(entry, error), reason), stop)
    done = done and until_possible(partial(_note_handled, service, entry), stop)
    if done:
        service.command_group.acknowledge([entry])
    return done


def _settle(service: Service, entry: Entry) -> None:
    if entry.body is None and not entry.others and is_at_or_before(entry, _handled(service)):
        return  # and was deleted since
    metadata = None
    try:
        request = _read(service, entry)
        metadata = request.metadata
        WORKING_ON.set(metadata.correlation_id)
        outcome = _outcome(service, entry, request)
    except UnreadableMessage as error:
        metadata, outcome = error.metadata, _refused(entry, error)
    except REFUSED as error:
        outcome = Outcome(refusal=error)
    if outcome:
        _finish(service, entry, metadata, outcome, str(outcome.refusal))


def _outcome(service: Service, entry: Entry, request: Request) -> Outcome | None:
    """How the command ends, or has ended; None where nobody can know."""
    handled = _handled(service)
    place = service.command_group.look_at(handled) if handled else None
    seems_handled = is_at_or_before(entry, handled)
    is_in_doubt = seems_handled or (place is not None and place.is_in_doubt)
    if not is_in_doubt and entry.tries <= MOST_TRIES:
        return _outcomes(service, [request], dry_run=_is_dry_run(entry))[0]
    if known := service.command_bus.recall(request):  # it took effect, and only that was not answered
        return known
    if seems_handled and place and place.is_intact:
        about = {"stream": redis_channels.COMMANDS, "entry": entry.id}
        log.warning("passed over: it was handled longer ago than outcomes are kept", extra=about)
        return None
    if is_in_doubt and not _is_dry_run(entry) and service.command_group.is_old(entry):
        reason = "nobody knows any more whether it was handled: the stream is another than it was"
        return _refused(entry, UnreadableMessage(reason))
    if entry.tries <= MOST_TRIES:  # it is young, and would be known
        if seems_handled:  # a position that went back would vouch for what was handled above it
            request = replace(request, position=None)
        return _outcomes(service, [request], dry_run=_is_dry_run(entry))[0]
    return _refused(entry, UnreadableMessage(f"read {entry.tries} times and never acknowledged"))


def _outcomes(service: Service, requests: Sequence[Request], *, dry_run: bool) -> Sequence[Outcome]:
    if dry_run:
        return [service.command_bus.dry_run(request.command, request.metadata) for request in requests]
    return service.command_bus.handle_together(requests)


def _refused(entry: Entry, error: Exception) -> Outcome:
    return (DryRun if _is_dry_run(entry) else Outcome)(refusal=error)


def _is_dead_letter(outcome: Outcome) -> bool:
    """Of a dry run the answer is all that there is."""
    return outcome.refusal is not None and not isinstance(outcome, DryRun)


def _answer(service: Service, entry: Entry, metadata: Metadata | None, outcome: Outcome) -> None:
    """Answer who sent it, if they said where. The same on a repeat, with the same id."""
    if stream := entry.others.get(_REPLY_TO):
        try:
            service.replies.send(stream, outcome_message(entry.id, metadata, outcome))
        except Unavailable:  # maybe for want of room
            service.command_group.trim(_handled(service))
            raise


def _finish(service: Service, entry: Entry, metadata: Metadata | None, outcome: Outcome, reason: str) -> None:
    """Keep it if it is a dead letter, and answer."""
    if _is_dead_letter(outcome):
        _store(service, entry, reason)
    _answer(service, entry, metadata, outcome)


def _note_handled(service: Service, entry: Entry) -> None:
    """What had no effect too, so that it stays so when the group is lost."""
    group = service.command_group
    handled = _handled(service)
    if is_at_or_before(entry, handled):
        return
    position = group.position_of(entry)
    if handled and group.look_at(handled).is_in_doubt:  # those after it are too, until a new one has taken effect
        position = replace(position, fingerprint="")
    service.command_bus.advance(position)


def _read(service: Service, entry: Entry) -> Request:
    if near := _near_miss(entry):
        raise UnreadableMessage(f"{near[0]}: is no known field; did you mean {near[1]}?")
    if entry.body is None:
        raise UnreadableMessage("the entry was deleted, or has no field `command`")
    if _is_dry_run(entry):
        return replace(read(redis_channels.COMMANDS, entry.body), message_id=None)
    if _DRY_RUN in entry.others:
        value = _text(entry.others[_DRY_RUN])
        raise UnreadableMessage(f"dry_run: must be 1, beside a field `replyto` that says who is told, not {value!r}")
    return replace(read(redis_channels.COMMANDS, entry.body), position=service.command_group.position_of(entry))


def _near_miss(entry: Entry) -> tuple[str, str] | None:
    """A field that looks like one of ours misspelt, and which one is meant: a misspelt `dry_run` must not have the
    command done. Other fields are the sender's own."""
    others = [other for other in map(_text, entry.others) if other not in _FIELDS]
    return next(((other, name) for other in others for name in _FIELDS if is_near(other, name)), None)


def _is_dry_run(entry: Entry) -> bool:
    return entry.others.get(_DRY_RUN) == b"1" and _REPLY_TO in entry.others


def _store(service: Service, entry: Entry, reason: str) -> None:
    log.warning("refused", extra={"stream": redis_channels.COMMANDS, "entry": entry.id, "error": reason})
    service.dead_letters.store(
        source=redis_channels.COMMANDS,
        message_id=f"{entry.id} {entry.fingerprint}",  # a stream that is made anew may give the id again
        body=_content(entry),
        reason=reason,
        attempts=entry.tries,
    )


def _content(entry: Entry) -> bytes:
    """What is kept of it as a dead letter: the command alone, where a retry may carry it out. Else all fields as JSON,
    which no retry can read: of a dry run, even of one that was misspelt, a retry must change nothing."""
    may_be_done = _DRY_RUN not in entry.others and not _near_miss(entry)
    if may_be_done and (entry.body is not None or not entry.others):
        return entry.body or b""
    command = {"command": _text(entry.body)} if entry.body is not None else {}
    content = {_text(name): _text(value) for name, value in entry.others.items()} | command
    return json.dumps(content, ensure_ascii=False).encode()


def _text(given: bytes) -> str:
    return given.decode(errors="backslashreplace")
