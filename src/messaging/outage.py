"""An effect that is away as a whole is left alone for a while, then tried with one stream: no flood into the database
or the log, however many streams wait, and however long."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection
from dataclasses import dataclass, field

from messaging.errors import Unavailable

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outage:
    """Of one effect, seen by all threads that carry it out.

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
