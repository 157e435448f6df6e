"""One round of a relay: the messages of its claims, as many at once as their effect takes, each stream in its order.

Nothing overtakes: once a message has failed, later ones of its stream are left for another round. Other streams go on,
unless it is the effect that is away: then all are left, as they were, but for the one that notes why.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from messaging.correlation import working_on
from messaging.envelope import Delivery
from messaging.errors import ClaimLost, MessagingError, Unavailable, UnknownMessage
from messaging.observation import Observer, guarded
from messaging.outbox.claims import Claim, Failure, OutboxMessage
from messaging.outbox.effects import Effect
from messaging.routes import Routes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait after a failure (seconds), and how often one may come that is no outage.

    An outage ends for all streams at once, and should be noticed soon. An event of a newer release is never given up:
    it waits, and holds its stream, until a relay that knows it comes by.
    """

    first_wait: float = 0.1
    longest_wait: float = 30.0
    longest_wait_in_an_outage: float = 2.0
    most_faults: int = 10

    def after(self, message: OutboxMessage, error: Exception) -> Failure:
        if isinstance(error, UnknownMessage):  # a relay of a newer release will carry it out, maybe beside us
            return Failure(message.version, str(error), self._wait(message, self.longest_wait), is_fault=False)
        if isinstance(error, MessagingError) and not isinstance(error, Unavailable):
            return Failure(message.version, str(error), None, is_fault=True)  # unreadable, or of no effect: never
        is_fault = not isinstance(error, Unavailable)
        longest = self.longest_wait if is_fault else self.longest_wait_in_an_outage
        given_up = is_fault and message.faults + 1 >= self.most_faults
        return Failure(message.version, repr(error), None if given_up else self._wait(message, longest), is_fault)

    def _wait(self, message: OutboxMessage, longest: float) -> float:
        return min(self.first_wait * 2.0 ** min(message.attempts, 30), longest)


@dataclass(slots=True)
class Outage:
    """An effect that is away as a whole, seen by all threads that deliver it. It is left alone for a while, then tried
    with one stream: no flood into the database or the log, however many streams wait, and however long.

    It is on once two streams have met it and no answer came between: a single one, as a mail whose address takes no
    mail today, fails for itself. It is over with the first answer.
    """

    effect: str
    longest_rest: float = 0.5
    _met_by: set[str] = field(default_factory=set, init=False)

    @property
    def is_on(self) -> bool:
        return len(self._met_by) > 1

    def meet(self, streams: Collection[str], error: Unavailable) -> bool:
        """These streams have met it. Returns whether it is on."""
        if self.is_on:
            return True
        self._met_by.update(streams)
        if self.is_on:
            about = {"effect": self.effect, "error": str(error)}
            log.warning("an effect is away, and tried until it is back", extra=about)
        return self.is_on

    def end(self) -> None:
        """The effect has answered."""
        if self.is_on:
            log.warning("an effect is back", extra={"effect": self.effect})
        self._met_by.clear()

    def rest(self) -> float:
        """How long to leave the effect alone (seconds). Never in step with other relays."""
        return random.uniform(self.longest_rest / 2, self.longest_rest)  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class _Due:
    claim: Claim
    message: OutboxMessage
    effect: Effect[Any]
    delivery: Delivery[object]


@dataclass(slots=True)
class DeliveryRound:
    """Of the effect called `name`. What becomes of the messages is noted in their claims."""

    name: str
    routes: Routes[Any]
    retry_policy: RetryPolicy
    time_is_up: Callable[[], bool]
    outage: Outage
    observer: Observer = field(default_factory=Observer)
    _gathered: list[_Due] = field(default_factory=list, init=False)
    _all_are_left: bool = field(default=False, init=False)

    def run(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self._gather(claim)
        self._deliver_gathered()

    def _gather(self, claim: Claim) -> None:
        after = claim.after
        for message in claim.messages:
            if self._must_wait(claim):
                return
            try:
                recorded = message.read()
                effect = self.routes.find_effect(type(recorded.event), self.name)
            except Exception as error:  # noqa: BLE001 - whatever can't be read, other streams must go on
                self._deliver_gathered()
                if not self._must_wait(claim):
                    self._note(claim, message, error)
                return
            self._gathered.append(_Due(claim, message, effect, Delivery(recorded, after, claim.token)))
            after = message.version
            if len(self._gathered) >= effect.batch:
                self._deliver_gathered()

    def _deliver_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        for _, of_one_effect in groupby(gathered, key=lambda one: id(one.effect)):
            if due := [one for one in of_one_effect if not (one.claim.is_over or self._all_are_left)]:
                self._deliver(due)

    def _deliver(self, due: Sequence[_Due]) -> None:
        deliveries = [one.delivery for one in due]
        end = guarded(self.observer.delivering, self.name, deliveries)
        try:
            failures = due[0].effect.deliver(deliveries)
        except Exception as error:  # noqa: BLE001 - whatever an effect raises, other streams must go on
            if end:
                guarded(end, error)
            failures = {one.claim.stream: error for one in due}
            if isinstance(error, Unavailable) and self.outage.meet(failures, error):
                due[0].claim.failure = self.retry_policy.after(due[0].message, error)
                self._all_are_left = True
                return
        else:
            if end:
                guarded(end, failures)
            self.outage.end()
        for claim, group in groupby(due, key=attrgetter("claim")):
            of_claim = list(group)
            failure = failures.get(claim.stream)
            if failure is None:
                claim.delivered += [one.message.version for one in of_claim]
            elif len(due) == 1 or isinstance(failure, (ClaimLost, Unavailable)):
                with working_on(of_claim[0].delivery.recorded.metadata.correlation_id):
                    self._note(claim, of_claim[0].message, failure)
            else:
                self._deliver_alone(of_claim)

    def _deliver_alone(self, due: Sequence[_Due]) -> None:
        """It is the fault of one event, and not known of which."""
        for one in due:
            if self._must_wait(one.claim):
                return
            self._deliver([one])

    def _must_wait(self, claim: Claim) -> bool:
        """Whether what is left of the claim is left for another round."""
        return claim.is_over or self._all_are_left or self.time_is_up()

    def _note(self, claim: Claim, message: OutboxMessage, error: Exception) -> None:
        about = {"effect": self.name, "stream": claim.stream, "version": message.version, "error": repr(error)}
        if isinstance(error, ClaimLost):
            claim.lost, claim.met = True, error.token
            log.warning("came late", extra=about)
        else:
            claim.failure = self.retry_policy.after(message, error)
            log.warning("an effect failed", extra=about | {"retry_in": claim.failure.retry_in})
