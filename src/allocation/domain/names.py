"""Names as they are kept: in Unicode's normal form C, so that what looks the same is the same."""

from __future__ import annotations

import unicodedata


class Renamed(str):
    """A name in that form, which came in another. Names from before that rule are found as they were `sent`."""

    __slots__ = ("sent",)
    sent: str


def normal(sent: str) -> str:
    """The name as it is kept."""
    kept = sent if sent.isascii() else unicodedata.normalize("NFC", sent)
    if kept == sent:
        return sent
    renamed = Renamed(kept)
    renamed.sent = sent
    return renamed


def forms(name: str) -> list[str]:
    """Under which it may be stored, the first that is there being meant."""
    return [str(name), name.sent] if isinstance(name, Renamed) else [name]
