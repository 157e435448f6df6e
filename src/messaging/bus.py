"""One message in, one transaction out, and what follows from it.

The bus gives a command a fresh unit of work, lets its handler change an aggregate, runs the policies on what happened
until nothing new happens, and commits everything at once: state, event log, read models, inbox mark and outbox rows.
It keeps nothing of a message once it is answered, so threads may share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from typing import Any, Generic, TypeVar

from messaging.contention import Contention
from messaging.correlation import WORKING_ON
from messaging.envelope import Metadata, Recorded
from messaging.errors import ConcurrencyConflict, MessageIdReused, OutcomeUnknown, StillRunning
from messaging.grouping import Groups
from messaging.observation import Observer, tell, unhindered
from messaging.retry import Retry
from messaging.routes import Routes
from messaging.unit_of_work import Outcome, UnitOfWork

U = TypeVar("U", bound=UnitOfWork)


@dataclass(frozen=True, slots=True)
class Request:
    """A command with what came along. A `message_id` makes it safe to send again: its first outcome stands."""

    command: object
    metadata: Metadata = field(default_factory=lambda: Metadata.first("internal"))
    message_id: str | None = None

    @property
    def fingerprint(self) -> str:
        """Tells two bodies apart. What has its default counts as not said: a field that a later release adds, with a
        default, leaves the fingerprints of old messages as they are."""
        said = [(one.name, getattr(self.command, one.name), one.default) for one in fields(self.command)]  # type: ignore[arg-type]  # commands are dataclasses
        body = {name: value for name, value, default in said if value != default}
        return sha256(f"{type(self.command).__name__}{sorted(body.items())}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MessageBus(Generic[U]):
    """`refusals` are the errors by which the domain says no."""

    routes: Routes[U]
    unit_of_work: Callable[[], AbstractContextManager[U]]
    refusals: type[Exception]
    retry: Retry = field(default_factory=Retry)
    observer: Observer = field(default_factory=Observer)
    _groups: Groups[Request, Outcome] = field(init=False, repr=False)
    _contention: Contention = field(default_factory=Contention, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_groups", Groups(self._handle_group))

    def handle(self, command: object, metadata: Metadata | None = None, message_id: str | None = None) -> Any:
        """Do what was asked and return the handler's answer.

        Raises the domain's refusal (nothing changed), MessageIdReused, StillRunning, or Unavailable (try again later).
        """
        return self.outcome(command, metadata, message_id).unwrap()

    def outcome(self, command: object, metadata: Metadata | None = None, message_id: str | None = None) -> Outcome:
        """The same for those who want to know whether anything changed; a refusal is part of the outcome."""
        request = Request(command, metadata or Metadata.first("internal"), message_id)
        stream = self.routes.stream(command)
        outcome = self._groups.run(stream, request) if stream else self.handle_together([request])[0]
        if isinstance(outcome.refusal, StillRunning):  # the others of its group did not wait for that
            return self.handle_together([request])[0]
        return outcome

    def handle_together(self, requests: Sequence[Request]) -> list[Outcome]:
        """Do all that was asked, in this order, in one transaction; a refused request changes nothing.

        Raises MessageIdReused, StillRunning and Unavailable for all of them.
        """
        return self._handle(_Attempts(requests))

    def recall(self, request: Request) -> Outcome | None:
        """What became of the request's message id when it came before; nothing is done.

        Raises MessageIdReused, StillRunning or Unavailable.
        """

        def ask() -> Outcome | None:
            with self.unit_of_work() as uow:
                return self._first_outcome(request, uow)

        return self.retry(ask)

    def _handle_group(self, requests: Sequence[Request]) -> list[Outcome]:
        """The same for requests of callers who know nothing of each other. One whose message id stands in its way has
        changed nothing yet: that is its outcome, and not the others' concern."""
        return self._handle(_Attempts(requests, strangers=len(requests) > 1))

    def _handle(self, attempts: _Attempts) -> list[Outcome]:
        requests = attempts.requests
        before = WORKING_ON.set(_carrier(requests))
        try:
            return unhindered(
                lambda handle: self.observer.handling(requests, handle),
                lambda: self.retry(lambda: self._attempt(attempts)),
            )
        finally:
            WORKING_ON.reset(before)

    def _attempt(self, attempts: _Attempts) -> list[Outcome]:
        requests = attempts.requests
        commands = [request.command for request in requests]
        streams = {stream for command in commands if (stream := self.routes.stream(command))}
        try:
            with self.unit_of_work() as uow:
                if attempts.lost or self._contention.is_fresh(streams):
                    uow.lock(commands)
                for event, outcomes in attempts.unanswered:
                    if uow.event_log.has(event):
                        return outcomes
                uow.prefetch(commands, [request.message_id for request in requests if request.message_id])
                log, outcomes = self._run_all(attempts, uow)
                try:
                    uow.commit()
                except OutcomeUnknown:
                    if log:
                        attempts.unanswered.append((log[-1], outcomes))
                    raise
        except ConcurrencyConflict:
            attempts.lost = True
            self._contention.note(streams)
            raise
        tell(lambda: self.observer.happened(log))
        return outcomes

    def _run_all(self, attempts: _Attempts, uow: U) -> tuple[list[Recorded[object]], list[Outcome]]:
        """What happened, and the outcome of each request."""
        log: list[Recorded[object]] = []
        outcomes = []
        for request in attempts.requests:
            WORKING_ON.set(request.metadata.correlation_id)
            try:
                known = self._first_outcome(request, uow)
            except (MessageIdReused, StillRunning) as error:
                if not attempts.strangers:
                    raise
                known = Outcome(refusal=error)
            outcomes.append(known or self._run(request, uow, log))
        WORKING_ON.set(_carrier(attempts.requests))
        return log, outcomes

    def _run(self, request: Request, uow: U, log: list[Recorded[object]]) -> Outcome:
        """What happens is added to the `log`."""
        handler = self.routes.handler(type(request.command))
        before = len(log)
        try:
            outcome = Outcome(handler(request.command, uow))
        except self.refusals as refusal:
            uow.discard_new_events()
            outcome = Outcome(refusal=refusal)
        log += self._follow_up(uow, request.metadata)
        if request.message_id:
            uow.inbox.remember(request.message_id, request.fingerprint, outcome)
        return replace(outcome, changed=len(log) > before)

    @staticmethod
    def _first_outcome(request: Request, uow: U) -> Outcome | None:
        remembered = uow.inbox.recall(request.message_id) if request.message_id else None
        if remembered is None:
            return None
        fingerprint, outcome = remembered
        if fingerprint != request.fingerprint:
            raise MessageIdReused(request.message_id or "")
        return outcome

    def _follow_up(self, uow: U, cause: Metadata) -> Iterator[Recorded[object]]:
        """Do what is done about each event until nothing new happens."""
        queue = deque(self._new_events(uow, cause))
        while queue:
            happened = queue.popleft()
            kind = type(happened.event)
            effects = self.routes.effect_names(kind)
            uow.event_log.append(happened, effects)
            for effect in effects:
                uow.outbox.post(happened, effect)
            for policy in self.routes.policies(kind):
                policy(happened.event, uow)
                queue.extend(self._new_events(uow, happened.metadata))
            yield happened

    @staticmethod
    def _new_events(uow: U, cause: Metadata) -> list[Recorded[object]]:
        return [Recorded(new.stream, new.version, new.event, cause.next()) for new in uow.collect_new_events()]


def _carrier(requests: Sequence[Request]) -> str:
    """In whose name the transaction of them all is done: the first one's, whose thread it is."""
    return requests[0].metadata.correlation_id if requests else ""


@dataclass(slots=True)
class _Attempts:
    """What is asked, by `strangers` to each other or not, and what is remembered from one attempt to the next: whether
    one lost to others, and the last event of each commit of which no answer came, with what it would have meant."""

    requests: Sequence[Request]
    strangers: bool = False
    lost: bool = False
    unanswered: list[tuple[Recorded[object], list[Outcome]]] = field(default_factory=list)
