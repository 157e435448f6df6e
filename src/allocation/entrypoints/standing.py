"""How a loop stands, in the log: said when it changes, however often it is found out."""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass(slots=True)
class Standing:
    log: logging.Logger
    _said: str = ""

    def __call__(self, level: int, words: str, **extra: object) -> None:
        """Says the words unless they were said last."""
        if words != self._said:
            self._said = words
            self.log.log(level, words, extra=extra)
