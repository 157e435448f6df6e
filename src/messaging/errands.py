"""One round of a relay: the letters of its claims, as many at once as their effect takes, each stream in its order.

Nothing overtakes: once a letter has failed, later ones of its stream are left for another round. Other streams go on,
unless it is the effect that is away: then all are left, as they were, but for the one that notes why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from messaging.claims import Claim, Failure, Letter
from messaging.correlation import working_on
from messaging.effects import EffectOnMany
from messaging.envelope import Delivery
from messaging.errors import ClaimLost, MessagingError, Unavailable, UnknownMessage
from messaging.observation import Observer, guarded
from messaging.outage import Outage
from messaging.routes import Routes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryLater:
    """How long to wait after a failure (seconds), and how often one may come that is not the surroundings' doing.

    An outage ends for all streams at once, and should be noticed soon. An event of a newer release is never given up:
    it waits, and holds its stream, until a relay that knows it comes by.
    """

    first_wait: float = 0.1
    longest_wait: float = 30.0
    longest_wait_in_an_outage: float = 2.0
    most_faults: int = 10

    def after(self, letter: Letter, error: Exception) -> Failure:
        if isinstance(error, UnknownMessage):  # a relay of a newer release will carry it out, maybe beside us
            return Failure(letter.version, str(error), self._wait(letter, self.longest_wait), is_fault=False)
        if isinstance(error, MessagingError) and not isinstance(error, Unavailable):
            return Failure(letter.version, str(error), None, is_fault=True)  # unreadable, or of no effect: never
        is_fault = not isinstance(error, Unavailable)
        longest = self.longest_wait if is_fault else self.longest_wait_in_an_outage
        given_up = is_fault and letter.faults + 1 >= self.most_faults
        return Failure(letter.version, repr(error), None if given_up else self._wait(letter, longest), is_fault)

    def _wait(self, letter: Letter, longest: float) -> float:
        return min(self.first_wait * 2.0 ** min(letter.attempts, 30), longest)


@dataclass(frozen=True, slots=True)
class _Errand:
    claim: Claim
    letter: Letter
    effect: EffectOnMany[Any]
    delivery: Delivery[object]


@dataclass(slots=True)
class Errands:
    """Of the effect called `name`. What becomes of the letters is noted in their claims."""

    name: str
    routes: Routes[Any]
    retry_later: RetryLater
    time_is_up: Callable[[], bool]
    outage: Outage
    observer: Observer = field(default_factory=Observer)
    _gathered: list[_Errand] = field(default_factory=list, init=False)
    _all_are_left: bool = field(default=False, init=False)

    def run(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self._gather(claim)
        self._carry_out_gathered()

    def _gather(self, claim: Claim) -> None:
        after = claim.after
        for letter in claim.letters:
            if self._must_wait(claim):
                return
            try:
                recorded = letter.read()
                effect = self.routes.find_effect(type(recorded.event), self.name)
            except Exception as error:  # noqa: BLE001 - whatever can't be read, other streams must go on
                self._carry_out_gathered()
                if not self._must_wait(claim):
                    self._note(claim, letter, error)
                return
            self._gathered.append(_Errand(claim, letter, effect, Delivery(recorded, after, claim.token)))
            after = letter.version
            if len(self._gathered) >= effect.at_once:
                self._carry_out_gathered()

    def _carry_out_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        for _, of_one_effect in groupby(gathered, key=lambda errand: id(errand.effect)):
            if errands := [errand for errand in of_one_effect if not (errand.claim.is_over or self._all_are_left)]:
                self._carry_out(errands)

    def _carry_out(self, errands: Sequence[_Errand]) -> None:
        deliveries = [errand.delivery for errand in errands]
        end = guarded(self.observer.delivering, self.name, deliveries)
        try:
            failures = errands[0].effect.carry_out(deliveries)
        except Exception as error:  # noqa: BLE001 - whatever an effect raises, other streams must go on
            if end:
                guarded(end, error)
            failures = {errand.claim.stream: error for errand in errands}
            if isinstance(error, Unavailable) and self.outage.meet(failures, error):
                errands[0].claim.failure = self.retry_later.after(errands[0].letter, error)
                self._all_are_left = True
                return
        else:
            if end:
                guarded(end, failures)
            self.outage.end()
        for claim, group in groupby(errands, key=attrgetter("claim")):
            of_claim = list(group)
            failure = failures.get(claim.stream)
            if failure is None:
                claim.delivered += [errand.letter.version for errand in of_claim]
            elif len(errands) == 1 or isinstance(failure, (ClaimLost, Unavailable)):
                with working_on(of_claim[0].delivery.recorded.metadata.correlation_id):
                    self._note(claim, of_claim[0].letter, failure)
            else:
                self._carry_out_alone(of_claim)

    def _carry_out_alone(self, errands: Sequence[_Errand]) -> None:
        """It is the fault of one event, and not known of which."""
        for errand in errands:
            if self._must_wait(errand.claim):
                return
            self._carry_out([errand])

    def _must_wait(self, claim: Claim) -> bool:
        """Whether what is left of the claim is left for another round."""
        return claim.is_over or self._all_are_left or self.time_is_up()

    def _note(self, claim: Claim, letter: Letter, error: Exception) -> None:
        about = {"effect": self.name, "stream": claim.stream, "version": letter.version, "error": repr(error)}
        if isinstance(error, ClaimLost):
            claim.lost = True
            log.warning("came late", extra=about)
        else:
            claim.failure = self.retry_later.after(letter, error)
            log.warning("an effect failed", extra=about | {"retry_in": claim.failure.retry_in})
