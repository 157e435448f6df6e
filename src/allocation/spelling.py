"""What two names have in common that are the same, spelled in another way."""

from __future__ import annotations

import re
import unicodedata

_NO_LETTER = re.compile(r"[\W_]")


def letters(name: str) -> str:
    """And digits: without case, width, blanks, `_`, `-` and what can't be seen."""
    return _NO_LETTER.sub("", unicodedata.normalize("NFKC", name)).casefold()


def has_words(name: str, known: str) -> bool:
    """Whether a word of it, or some that stand together, are spelled like the known name."""
    spelled = r"[\W_]*".join(letters(known))
    return bool(re.search(rf"(?<![^\W_]){spelled}(?![^\W_])", unicodedata.normalize("NFKC", name).casefold()))
