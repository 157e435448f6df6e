"""Appends again, from the log, what Redis has lost: after a restart, a failover, a flush, or at a new address.

Each stream is claimed while it is refilled, so that what is new waits behind what is old.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Protocol

from messaging.envelope import Recorded
from messaging.errors import ClaimLost, Unavailable, UnknownMessage, UnreadableMessage
from messaging.loops import StatusLog, repeat
from messaging.outbox.claims import Claim, Deliveries, OutboxMessage
from messaging.redis.event_stream import Append, EventStream, StreamEvent

log = logging.getLogger(__name__)


class ClaimsByName(Deliveries, Protocol):
    def claim_these(self, effect: str, streams: Collection[str]) -> list[Claim]:
        """Claim these streams as far as nobody has them, without their messages."""
        ...


class Delivered(Protocol):
    """What was published, as the database remembers it."""

    def last_versions(self, effect: str, beyond: str, most: int) -> Mapping[str, int]:
        """The last version published of each stream, for the next streams in order after `beyond`."""
        ...

    def claimed(self, effect: str, streams: Sequence[str] | None = None) -> Mapping[str, int]:
        """The token of each stream, of these, that was claimed and not settled."""
        ...

    def messages(
        self, effect: str, spans: Mapping[str, tuple[int, int]], younger_than: timedelta
    ) -> Iterator[tuple[str, OutboxMessage]]:
        """What was published of some streams, each after one version and up to another, with the stream's name."""
        ...


@dataclass(frozen=True, slots=True)
class Backfill:
    """`encode` gives the body of an entry."""

    effect: str
    stream: EventStream
    deliveries: ClaimsByName
    delivered: Delivered
    encode: Callable[[Recorded[object]], bytes]
    every: float = 1.0
    patience: float = 1.5
    streams_at_once: int = 100
    messages_at_once: int = 500

    def run(self, stop: Event) -> None:
        """Look now and then whether Redis has lost anything, until stopped."""

        def step() -> float:
            if (events := self.fill(stop)) and not stop.is_set():
                log.warning("redis had lost events, and has them again", extra={"events": events})
            return self.every

        repeat(step, stop, StatusLog(log), "the backfill", self.every)

    def fill(self, stop: Event | None = None) -> int:
        """Publish what is missing, as far as it comes until stopped; returns how many events.

        Raises Unavailable, also when some are for a newer release.
        """
        stop = stop or Event()
        home = self.stream.home()
        if self.stream.is_complete(home):
            return 0
        mark = self.stream.begin_check(home)
        events, complete, beyond = 0, self._is_written_down(stop), ""
        too_new: dict[str, UnknownMessage] = {}
        while not stop.is_set() and (
            last_versions := self.delivered.last_versions(self.effect, beyond, self.streams_at_once)
        ):
            beyond = max(last_versions)
            in_redis = dict(zip(last_versions, self.stream.versions(list(last_versions)), strict=True))
            behind = {stream: in_redis[stream] for stream, last in last_versions.items() if in_redis[stream] < last}
            if behind:
                if complete and not events:  # a replica or a dump may give ids again that readers have seen
                    self.stream.begin_anew()
                claims = self.deliveries.claim_these(self.effect, behind)
                complete = complete and len(claims) == len(behind)
                try:
                    events += self._append_again(claims, behind, too_new, stop)
                except ClaimLost as error:
                    complete = False
                    for claim in claims:
                        claim.met = error.token
                finally:
                    self.deliveries.settle(self.effect, claims)
            complete = complete and self.stream.is_checked(mark, home)
        if too_new:
            stream, reason = next(iter(too_new.items()))
            raise Unavailable(f"a relay of a newer release must publish {len(too_new)} streams, as {stream}: {reason}")
        if complete and not stop.is_set():
            self.stream.end_check(mark, home)
        return events

    def _is_written_down(self, stop: Event) -> bool:
        """Whether what had been published before now is written down in the database, or will be published again: a
        relay may have published into what is lost, and say so only after we have looked."""
        at_work = self.delivered.claimed(self.effect)
        deadline = time.monotonic() + self.patience
        while at_work and time.monotonic() < deadline and not stop.wait(0.02):
            abandoned = self.deliveries.claim_these(self.effect, at_work)  # so that nobody settles them any more
            self.deliveries.settle(self.effect, abandoned)
            now = self.delivered.claimed(self.effect, list(at_work))
            at_work = {stream: token for stream, token in at_work.items() if now.get(stream) == token}
        return not at_work

    def _append_again(
        self, claims: Sequence[Claim], in_redis: Mapping[str, int], too_new: dict[str, UnknownMessage], stop: Event
    ) -> int:
        """`too_new` takes in the streams whose rest is left to a newer release, so that nothing is passed over."""
        by_stream = {claim.stream: claim for claim in claims}
        spans = {claim.stream: (in_redis[claim.stream], claim.after) for claim in claims}
        events, batch = 0, list[Append]()
        after = dict(in_redis)  # what Redis has lost since it was compared is a gap, which the next round fills
        messages = self.delivered.messages(self.effect, spans, self.stream.keep)
        for stream, version, body in self._bodies(messages, too_new):
            batch.append(Append(stream, by_stream[stream].token, after[stream], version, [StreamEvent(version, body)]))
            after[stream] = version
            events += 1
            if len(batch) == self.messages_at_once:
                self.stream.append_all(batch)
                self.deliveries.extend(self.effect, claims)
                batch.clear()
                if stop.is_set():
                    return events
        finished = [claim for claim in claims if claim.stream not in too_new]
        caught_up = [Append(claim.stream, claim.token, after[claim.stream], claim.after) for claim in finished]
        self.stream.append_all([*batch, *caught_up])
        return events

    def _bodies(
        self, messages: Iterator[tuple[str, OutboxMessage]], too_new: dict[str, UnknownMessage]
    ) -> Iterator[tuple[str, int, bytes]]:
        """Stream, version and body of each that can be published."""
        for stream, message in messages:
            if stream not in too_new:
                try:
                    yield stream, message.version, self.encode(message.read())
                except UnknownMessage as error:
                    too_new[stream] = error
                except UnreadableMessage as error:
                    about = {"stream": stream, "version": message.version, "error": str(error)}
                    log.error("the log holds what can't be published again", extra=about)  # noqa: TRY400 - it says all
