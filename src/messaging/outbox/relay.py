"""Carries out effects after the commit: at least once each, in the order of their stream, each effect on its own.

A relay claims streams, not rows, so any number of relays may run and order within a stream still holds. A claim is kept
up while its owner is at work, however long an effect takes, and runs out soon after its owner has died. What fails is
tried again later and holds back only the later events of its stream and effect. An effect that is away as a whole is
left alone for a moment, and tried with one stream until it is back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread, get_ident
from typing import Any

from messaging.errors import NotAllowed
from messaging.loops import StatusLog, repeat
from messaging.observation import Observer
from messaging.outbox.claims import Claim, Deliveries
from messaging.outbox.delivery import DeliveryRound, Outage, RetryPolicy
from messaging.routes import Routes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Relay:
    """Looks for work at once after it had some, and then less and less often: a pause is about a quarter of the time
    that nothing has come."""

    routes: Routes[Any]
    deliveries: Deliveries
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    shortest_pause: float = 0.01
    longest_pause: float = 0.2
    growth: float = 1.25
    streams_at_once: int = 100
    clock: Callable[[], float] = time.monotonic
    observer: Observer = field(default_factory=Observer)
    _held: dict[int, tuple[str, Sequence[Claim]]] = field(default_factory=dict, init=False, repr=False)  # by thread
    _outages: dict[str, Outage] = field(default_factory=dict, init=False, repr=False)  # by effect

    def run(self, stop: Event) -> None:
        """Deliver until stopped, each effect in threads of its own, so that a slow one delays no other.

        An effect that may be slow has some threads, with one stream each at a time, so that it delays no other stream.
        """
        names = [name for name in self.routes.all_effect_names() for _ in range(self.routes.workers(name))]
        statuses = {name: StatusLog(log, {"effect": name}) for name in names}
        threads = [Thread(target=self._run, args=(name, stop, statuses[name]), name=name) for name in names]
        all_done = Event()
        keeper = Thread(target=self._keep_claims, args=(all_done,), name="claims")
        for thread in (*threads, keeper):
            thread.start()
        for thread in threads:
            thread.join()
        all_done.set()
        keeper.join()

    def _run(self, effect: str, stop: Event, status: StatusLog) -> None:
        pause = self.shortest_pause

        def step() -> float:
            nonlocal pause
            is_busy = self.deliver(effect) > 0
            now = 0.0 if is_busy else pause
            pause = self.shortest_pause if is_busy else min(pause * self.growth, self.longest_pause)
            outage = self._outage(effect)
            return outage.rest() if outage.is_on else now

        repeat(step, stop, status, "the relay", self.longest_pause)

    def deliver(self, effect: str) -> int:
        """Carry out what is due now, as far as one claim reaches; returns how many messages were delivered."""
        self._settle()
        enough = self.clock() + self.deliveries.lease / 2
        outage = self._outage(effect)
        one_by_one = self.routes.workers(effect) > 1 or outage.is_on
        claims = self.deliveries.claim(effect, 1 if one_by_one else self.streams_at_once)
        round_ = DeliveryRound(
            effect,
            self.routes,
            self.retry_policy,
            time_is_up=lambda: self.clock() > enough,
            outage=outage,
            observer=self.observer,
        )
        self._held[get_ident()] = effect, claims
        round_.run(claims)
        self._settle()
        return sum(len(claim.delivered) for claim in claims)

    def _settle(self) -> None:
        """What this thread holds. Where a right is missing it comes first the next time: carried out and never written
        down, it would be carried out again and again. After another fault it may be another database."""
        effect, claims = self._held.pop(get_ident(), ("", ()))
        try:
            if claims:
                self.deliveries.settle(effect, claims)
        except NotAllowed:
            self._held[get_ident()] = effect, claims
            raise

    def _outage(self, effect: str) -> Outage:
        return self._outages.setdefault(effect, Outage(effect))

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
                if claim.stream not in still_ours:
                    claim.lost = True
