"""What two names have in common that are the same, spelled in another way."""

from __future__ import annotations

import re
import unicodedata

_BETWEEN_LETTERS = re.compile(r"[\W_]")


def letters(name: str) -> str:
    """And digits: without case, width, blanks, `_`, `-` and what can't be seen."""
    return _BETWEEN_LETTERS.sub("", unicodedata.normalize("NFKC", name)).casefold()
