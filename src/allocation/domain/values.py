"""What commands, events and the model say in the same words."""

from __future__ import annotations

from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["all_or_nothing", "partial", "backorder"]
"""What becomes of an order that there is not enough for: it is out of stock; each line gets what there is and waits for
the rest; or each line that does not fit waits as a whole."""

Revision: TypeAlias = tuple[int, ...]
"""All of a batch that ever changes, so that whoever has seen it can say so."""

Condition: TypeAlias = Literal["good", "check"]
"""Of what comes back: for sale at once, or to be looked at first."""

Reason: TypeAlias = Literal["damaged", "expired", "suspect", "lost", "found", "theft", "correction", "other"]
"""Why goods are quarantined or written off, or a count differs."""

WhyHoldEnded: TypeAlias = Literal["confirmed", "voided", "expired", "broken"]
"""An order took it over; it was given up; it has run out; or its batch fell short."""

WhyReleased: TypeAlias = Literal["released", "cancelled", "changed", "moved"]

USUAL_PRIORITY = 5
"""Of 0 to 9: the higher, the earlier a line is served, and the later its promises are broken."""


class KnownBySku:
    """A line that was given no id is known by its SKU."""

    __slots__ = ()
    sku: str
    lineid: str

    def __post_init__(self) -> None:
        if not self.lineid:
            object.__setattr__(self, "lineid", self.sku)
