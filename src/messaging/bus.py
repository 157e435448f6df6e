"""One message in, one transaction out, and what follows from it.

The bus gives a command a fresh unit of work, lets its handler change an aggregate, runs the policies on what happened
until nothing new happens, and commits everything at once: state, event log, read models, inbox mark and outbox rows.
It keeps nothing of a message once it is answered, so threads may share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from messaging.apart import Apart
from messaging.coalescing import Coalescer
from messaging.contention import Contention
from messaging.correlation import WORKING_ON, working_on
from messaging.envelope import LEFT_OUT, DryRun, Metadata, Outcome, Recorded, Request
from messaging.errors import ConcurrencyConflict, IsLong, MessageIdReused, OutcomeUnknown, RequestInProgress
from messaging.fingerprints import fingerprint
from messaging.observation import Observer, guarded
from messaging.retry import Retry
from messaging.routes import Routes
from messaging.unit_of_work import UnitOfWork

U = TypeVar("U", bound=UnitOfWork)


@dataclass(eq=False)
class MessageBus(Generic[U]):
    """`refusals` are the errors by which the domain says no. Commands that are long at work go `apart`."""

    routes: Routes[U]
    unit_of_work: Callable[[], AbstractContextManager[U]]
    refusals: type[Exception]
    retry: Retry = field(default_factory=Retry)
    observer: Observer = field(default_factory=Observer)
    apart: Apart[U] | None = None

    def __post_init__(self) -> None:
        self._contention = Contention()
        self._brief_retry = replace(self.retry, conflict_deadline=min(self.retry.conflict_deadline, 0.1))
        self._coalescer: Coalescer[Request, Outcome] = Coalescer(
            partial(self._handle, independent=True), LEFT_OUT, self._contention.is_fresh
        )

    def handle(self, command: object, metadata: Metadata | None = None, message_id: str | None = None) -> Any:
        """Handle the command and return the handler's answer.

        Raises the domain's refusal (nothing changed), MessageIdReused, RequestInProgress, or Unavailable (try later).
        """
        return self.outcome(command, metadata, message_id).unwrap()

    def outcome(self, command: object, metadata: Metadata | None = None, message_id: str | None = None) -> Outcome:
        """The same for those who want to know whether anything changed; a refusal is part of the outcome."""
        if self.apart and self.apart.is_long(command):
            return self.apart.outcome(command, metadata, message_id)
        request = Request(command, metadata or Metadata.first("internal"), message_id)
        try:
            if streams := self.routes.streams(command):
                outcome = self._coalescer.run(streams, request)
                if not isinstance(outcome.refusal, RequestInProgress):  # the others of its group did not wait for that
                    return outcome
            return self._handle([request], wait=True)[0]
        except IsLong:
            if not self.apart:
                raise
            return self.apart.outcome(command, request.metadata, message_id)

    def handle_together(self, requests: Sequence[Request]) -> list[Outcome]:
        """Handle all of them, in this order, in one transaction; a refused request changes nothing.

        Raises MessageIdReused, RequestInProgress and Unavailable for all of them.
        """
        return self._handle(requests, wait=self._contention.is_fresh(self._streams_of(requests)))

    def dry_run(self, command: object, metadata: Metadata | None = None) -> DryRun:
        """How the command would end now, and what would happen. Nothing is written, and nobody is waited for.

        Raises Unavailable.
        """
        if self.apart and self.apart.is_long(command):
            return self.apart.dry_run(command, metadata)
        request = Request(command, metadata or Metadata.first("internal"))

        def attempt() -> DryRun:
            with self.preview() as preview:
                [outcome], events = preview([request])
            return DryRun(outcome.result, outcome.refusal, outcome.changed, events)

        try:
            return self.retry(attempt)
        except IsLong:
            if not self.apart:
                raise
            return self.apart.dry_run(command, metadata)

    @contextmanager
    def preview(self) -> Iterator[Callable[[Sequence[Request]], tuple[list[Outcome], list[Recorded[object]]]]]:
        """What would become of requests, and the events: decided in one unit of work that is never committed.

        Whatever is previewed later sees what was before it, and nothing that others commit meanwhile.
        """
        with self.unit_of_work() as uow:

            def preview(requests: Sequence[Request]) -> tuple[list[Outcome], list[Recorded[object]]]:
                group = _Group(requests)
                with working_on(group.correlation_id):
                    uow.prefetch([request.command for request in requests], [])
                    return self._run_all(group, uow, writes=False)

            yield preview

    def recall(self, request: Request) -> Outcome | None:
        """What became of its message id when it came before. Raises MessageIdReused, RequestInProgress, Unavailable."""

        def ask() -> Outcome | None:
            with self.unit_of_work() as uow:
                return self._first_outcome(request, uow)

        return self.retry(ask)

    def fingerprint(self, command: object) -> str:
        return fingerprint(self.routes.name_of(command), command)

    def _handle(self, requests: Sequence[Request], *, wait: bool, independent: bool = False) -> list[Outcome]:
        """`independent` callers leave out what others have locked; else, without `wait`, it shows at the commit."""
        group = _Group(requests, independent, "wait" if wait else "skip" if independent else None)
        retry = self._brief_retry if independent and len(requests) > 1 else self.retry  # then one by one
        with working_on(group.correlation_id):
            end = guarded(self.observer.handling, group.requests)
            try:
                outcomes = retry(partial(self._in_transaction, group))
            except BaseException as error:
                if end:
                    guarded(end, error)
                if group.unanswered and len(requests) > 1 and isinstance(error, Exception):
                    raise OutcomeUnknown("a commit had no answer, and then there was a fault") from error
                raise
            if end:
                guarded(end, outcomes)
            return outcomes

    def _in_transaction(self, group: _Group) -> list[Outcome]:
        commands = [request.command for request in group.requests]
        try:
            with self.unit_of_work() as uow:
                if group.lock:
                    uow.lock(commands, group.met_at, wait=group.lock == "wait")
                for log, outcomes in group.unanswered:
                    if uow.event_log.has(log[-1]):
                        guarded(self.observer.happened, log)
                        return outcomes
                uow.prefetch(commands, [one for request in group.requests for one in request.message_ids])
                outcomes, log = self._run_all(group, uow)
                try:
                    uow.commit()
                except OutcomeUnknown:
                    if log:
                        group.unanswered.append((log, outcomes))
                    raise
                except ConcurrencyConflict:
                    group.met_at |= set(uow.streams)
                    raise
        except ConcurrencyConflict as conflict:
            streams = self._streams_of(group.requests)
            if group.independent and len(streams) > 1:  # they are together by chance, and run again as they are
                raise
            self._contention.note(streams)
            lock, group.lock = group.lock, "wait"
            if lock != "skip" or group.unanswered:
                raise
            guarded(self.retry.again, conflict)
            return [LEFT_OUT for _ in group.requests]  # for a group of their own, which waits
        guarded(self.observer.happened, log)
        return outcomes

    def _streams_of(self, requests: Sequence[Request]) -> set[str]:
        return {stream for request in requests for stream in self.routes.streams(request.command)}

    def _run_all(self, group: _Group, uow: U, *, writes: bool = True) -> tuple[list[Outcome], list[Recorded[object]]]:
        """The outcome of each request, LEFT_OUT where its stream is locked; and what happened."""
        # What a lost COMMIT may have written is looked for by this group only, so none of it comes again in another.
        locked = uow.locked_elsewhere if group.lock == "skip" and not group.unanswered else ()
        log: list[Recorded[object]] = []
        outcomes: list[Outcome] = []
        for request in group.requests:
            WORKING_ON.set(request.metadata.correlation_id)
            if locked and not (streams := set(self.routes.streams(request.command))).isdisjoint(locked):
                self._contention.note(streams)
                outcomes.append(LEFT_OUT)
                continue
            try:
                known = self._first_outcome(request, uow)
            except (MessageIdReused, RequestInProgress) as error:
                if not group.independent:
                    raise
                known = Outcome(refusal=error)
            outcomes.append(known or self._run(request, uow, log, writes=writes))
            if request.position:
                uow.inbox.advance(request.position)
        WORKING_ON.set(group.correlation_id)
        return outcomes, log

    def _run(self, request: Request, uow: U, log: list[Recorded[object]], *, writes: bool) -> Outcome:
        handler = self.routes.handler(type(request.command))
        before = len(log)
        try:
            outcome = Outcome(handler(self.routes.translate(request.command, uow), uow))
        except self.refusals as refusal:
            uow.discard_new_events()
            outcome = Outcome(refusal=refusal)
        log += self._follow_up(uow, request.metadata, writes=writes)
        if request.message_id and writes:
            uow.inbox.remember(request.message_id, self.fingerprint(request.command), outcome)
        return replace(outcome, changed=len(log) > before)

    def _first_outcome(self, request: Request, uow: U) -> Outcome | None:
        remembered = next(filter(None, map(uow.inbox.recall, request.message_ids)), None)
        if remembered is None:
            return None
        fingerprint, outcome = remembered
        if fingerprint != self.fingerprint(request.command):
            raise MessageIdReused(request.message_id or "")
        return outcome

    def _follow_up(self, uow: U, cause: Metadata, *, writes: bool) -> Iterator[Recorded[object]]:
        """Do what is done about each event until nothing new happens."""
        queue = deque(self._new_events(uow, cause))
        while queue:
            happened = queue.popleft()
            kind = type(happened.event)
            if writes:
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


@dataclass(slots=True)
class _Group:
    """Requests that share a transaction, and what is remembered from one attempt to the next.

    Those of `independent` callers must not hold each other up. `lock`: whether to wait for the locks of what they will
    write, to leave out what others have locked, or (None) to find out at the commit. `unanswered` are commits of which
    no answer came: what would have happened, and the outcomes. `met_at` are the streams that were loaded when another
    was faster: the commands may not name them.
    """

    requests: Sequence[Request]
    independent: bool = False
    lock: Literal["wait", "skip"] | None = None
    unanswered: list[tuple[list[Recorded[object]], list[Outcome]]] = field(default_factory=list)
    met_at: set[str] = field(default_factory=set)

    @property
    def correlation_id(self) -> str:
        return self.requests[0].metadata.correlation_id if self.requests else ""
