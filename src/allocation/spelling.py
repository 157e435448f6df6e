"""What two names have in common that are the same, spelled in another way."""

from __future__ import annotations

import re
import unicodedata

_NO_LETTER = re.compile(r"[\W_]")
_ASCII = {code: chr(code).lower() if chr(code).isalnum() else None for code in range(128)}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def folded(name: str) -> str:
    """Its letters and digits, without case, width, blanks, `_`, `-` and what can't be seen."""
    if name.isascii():
        return name.translate(_ASCII)
    return _NO_LETTER.sub("", unicodedata.normalize("NFKC", name)).casefold()


def has_words(name: str, known: str) -> bool:
    """Whether a word of it, or some that stand together, are spelled like the known name; also one in camelCase."""
    spelled = r"[\W_]*".join(folded(known))
    words = _HUMP.sub(" ", unicodedata.normalize("NFKC", name)).casefold()
    return bool(re.search(rf"(?<![^\W_]){spelled}(?![^\W_])", words))
