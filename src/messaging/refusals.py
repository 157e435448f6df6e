"""The domain's errors as they are stored with the message that they answer: a code, the text, and the
`numbers` in it, where they have some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refusals:
    """Knows each kind by its code. One that a newer release has stored is read as `unknown`, with its text."""

    def __init__(self, kinds: Mapping[str, type[Exception]], unknown: type[Exception]) -> None:
        self._kinds = kinds
        self._codes = {kind: code for code, kind in kinds.items()}
        self._unknown = unknown

    def encode(self, refusal: Exception) -> dict[str, Any]:
        numbers = getattr(refusal, "numbers", None)
        stored = {"refused": self._codes[type(refusal)], "because": str(refusal)}
        return stored | ({"numbers": dict(numbers)} if numbers else {})

    def decode(self, stored: Mapping[str, Any]) -> Exception:
        kind = self._kinds.get(stored["refused"], self._unknown)
        refusal = kind.__new__(kind, stored["because"])  # its own __init__ may take more than a text
        if numbers := stored.get("numbers"):
            refusal.numbers = numbers  # type: ignore[attr-defined]  # only those that have some are stored with some
        return refusal
