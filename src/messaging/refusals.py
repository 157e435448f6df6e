"""The domain's errors as they are stored with the message that they answer: a code, and the text."""

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
        return {"refused": self._codes[type(refusal)], "because": str(refusal)}

    def decode(self, stored: Mapping[str, Any]) -> Exception:
        kind = self._kinds.get(stored["refused"], self._unknown)
        return kind.__new__(kind, stored["because"])  # its own __init__ may take more than a text
