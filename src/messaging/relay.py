"""Carries out effects after the commit: at least once each, in the order of their stream, each effect on its own.

A relay claims streams, not rows, so any number of relays may run and order within a stream still holds. A claim is kept
up while its owner is at work, however long an effect takes, and runs out soon after its owner has died. What fails is
tried again later and holds back only the later events of its stream and effect.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread, get_ident
from typing import Any, Protocol

from messaging.envelope import Delivery, Recorded
from messaging.errors import ClaimLost, MessagingError, Unavailable
from messaging.routes import Routes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Letter:
    """An effect to carry out: `read` gives the event, or raises UnreadableMessage.

    Of the `attempts` that failed so far, `faults` were not the surroundings' doing.
    """

    version: int
    attempts: int
    faults: int
    read: Callable[[], Recorded[object]]


@dataclass(slots=True)
class Claim:
    """The next letters of one stream, ours until the claim runs out, and what became of them.

    `after` is the version that was delivered last.
    """

    stream: str
    token: int
    after: int
    letters: Sequence[Letter]
    delivered: list[int] = field(default_factory=list)
    failure: Failure | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the letter after the delivered ones failed; try again `retry_in` seconds later, or never (None)."""

    version: int
    reason: str
    retry_in: float | None
    is_fault: bool


class Deliveries(Protocol):
    """The outbox as relays see it."""

    def claim(self, effect: str, most: int = 100) -> list[Claim]:
        """Claim streams with letters that are due, so many at most, for `lease` seconds."""
        ...

    def extend(self, effect: str, claims: Sequence[Claim]) -> Collection[str]:
        """Have claims last another `lease` from now; returns the streams that are still ours."""
        ...

    def settle(self, effect: str, claims: Sequence[Claim]) -> None:
        """Write down what was delivered or failed, and let go. A claim that was lost meanwhile changes nothing."""
        ...

    @property
    def lease(self) -> float: ...


@dataclass(frozen=True, slots=True)
class RetryLater:
    """How long to wait after a failure (seconds), and how often one may come that is not the surroundings' doing.

    An outage ends for all streams at once, and should be noticed soon.
    """

    first_wait: float = 0.1
    longest_wait: float = 30.0
    longest_wait_in_an_outage: float = 2.0
    most_faults: int = 10

    def after(self, letter: Letter, error: Exception) -> Failure:
        if isinstance(error, MessagingError) and not isinstance(error, Unavailable):
            return Failure(letter.version, str(error), None, is_fault=True)  # unreadable, or of no effect: never
        is_fault = not isinstance(error, Unavailable)
        longest = self.longest_wait if is_fault else self.longest_wait_in_an_outage
        wait = min(self.first_wait * 2.0 ** min(letter.attempts, 30), longest)
        given_up = is_fault and letter.faults + 1 >= self.most_faults
        return Failure(letter.version, repr(error), None if given_up else wait, is_fault)


@dataclass(frozen=True, slots=True)
class Relay:
    routes: Routes[Any]
    deliveries: Deliveries
    retry_later: RetryLater = field(default_factory=RetryLater)
    shortest_pause: float = 0.01
    longest_pause: float = 0.2
    side_by_side: int = 4
    streams_at_once: int = 100
    clock: Callable[[], float] = time.monotonic
    _held: dict[int, tuple[str, Sequence[Claim]]] = field(default_factory=dict, init=False, repr=False)  # by thread
    _out_of_reach: dict[str, str] = field(default_factory=dict, init=False, repr=False)  # why, by effect

    def run(self, stop: Event) -> None:
        """Deliver until told to stop, each effect in threads of its own, so that a slow one delays no other.

        An effect that may be slow has some threads, with one stream each at a time, so that it delays no other stream.
        """
        names = [
            name
            for name in self.routes.all_effect_names()
            for _ in range(self.side_by_side if self.routes.may_be_slow(name) else 1)
        ]
        threads = [Thread(target=self._run, args=(name, stop), name=name) for name in names]
        all_done = Event()
        keeper = Thread(target=self._keep_claims, args=(all_done,), name="claims")
        for thread in (*threads, keeper):
            thread.start()
        for thread in threads:
            thread.join()
        all_done.set()
        keeper.join()

    def _run(self, effect: str, stop: Event) -> None:
        pause = self.shortest_pause
        while not stop.is_set():
            try:
                busy = self.deliver(effect) > 0
                self._out_of_reach.pop(effect, None)
            except Unavailable as error:
                if self._out_of_reach.get(effect) != str(error):  # once, not five times a second
                    self._out_of_reach[effect] = str(error)
                    log.warning("the outbox is out of reach", extra={"effect": effect, "error": str(error)})
                busy, pause = False, self.longest_pause
            except Exception:
                log.exception("the relay failed, and goes on", extra={"effect": effect})
                busy, pause = False, self.longest_pause
            if not busy:
                stop.wait(pause)
            pause = self.shortest_pause if busy else min(pause * 2, self.longest_pause)

    def deliver(self, effect: str) -> int:
        """Carry out what is due now, as far as one claim reaches; returns how many letters were delivered."""
        enough = self.clock() + self.deliveries.lease / 2
        claims = self.deliveries.claim(effect, 1 if self.routes.may_be_slow(effect) else self.streams_at_once)
        self._held[get_ident()] = effect, claims
        try:
            for claim in claims:
                self._deliver(effect, claim, enough)
        finally:
            del self._held[get_ident()]
        if claims:
            self.deliveries.settle(effect, claims)
        return sum(len(claim.delivered) for claim in claims)

    def _deliver(self, effect: str, claim: Claim, enough: float) -> None:
        after = claim.after
        for letter in claim.letters:
            if claim.lost or self.clock() > enough:
                return
            try:
                recorded = letter.read()
                self.routes.find_effect(type(recorded.event), effect)(Delivery(recorded, after, claim.token))
            except ClaimLost as error:
                log.warning("came late", extra={"effect": effect, "stream": claim.stream, "error": str(error)})
                return
            except Exception as error:  # noqa: BLE001 - whatever an effect raises, other streams must go on
                claim.failure = self.retry_later.after(letter, error)
                about = {"effect": effect, "stream": claim.stream, "version": letter.version, "error": repr(error)}
                log.warning("an effect failed", extra=about | {"retry_in": claim.failure.retry_in})
                return
            claim.delivered.append(letter.version)
            after = letter.version

    def _keep_claims(self, all_done: Event) -> None:
        while not all_done.wait(self.deliveries.lease / 4):
            try:
                self.keep_claims()
            except Exception as error:  # noqa: BLE001 - claims that can't be kept run out, which is what they are for
                log.warning("could not keep up claims", extra={"error": str(error)})

    def keep_claims(self) -> None:
        """Have the claims that are being worked on last longer. Raises Unavailable."""
        for effect, claims in list(self._held.values()):
            still_ours = self.deliveries.extend(effect, claims)
            for claim in claims:
                claim.lost = claim.stream not in still_ours
