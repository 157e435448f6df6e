"""Where the data is not consistent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """`what` names the thing and its key; `expected` and `found` read on as a sentence, None as "none"."""

    what: str
    expected: object
    found: object

    def __str__(self) -> str:
        expected = "none" if self.expected is None else self.expected
        found = "none" if self.found is None else self.found
        return f"{self.what}: expected {expected}, found {found}"


class UnknownEvent(Difference):
    """Written by a newer release, maybe. Whether the data is consistent there, this one can't tell."""


def the_batch(reference: str, sku: str) -> str:
    return f"batch {reference!r} of {sku!r}"  # repr: whatever the name holds, this stays one line


def the_event(version: int, stream: str) -> str:
    return f"event {version} of {stream!r}"


def the_line(orderid: str, lineid: str) -> str:
    return f"line {lineid!r} of order {orderid!r}"
