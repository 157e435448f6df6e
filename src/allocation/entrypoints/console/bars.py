"""Batches drawn as bars, and told in words for those who do not see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from allocation.views import Batch


@dataclass(frozen=True, slots=True)
class Piece:
    """In per cent of the whole bar."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    pieces: list[Piece]
    in_words: str


def bar(batches: Sequence[Batch], whole: int | None = None) -> Bar:
    """One bar for the batches side by side, as long as `whole`, or else as all of them."""
    length = whole or sum(batch.qty for batch in batches)
    pieces, x = [], 0.0
    for batch in batches:
        free = "available" if batch.eta is None else "incoming"
        for kind, qty in (("allocated", batch.allocated), (free, batch.available)):
            if qty and length:
                width = 100 * qty / length
                pieces.append(Piece(kind, round(x, 3), round(width, 3)))
                x += width
    return Bar(pieces, "; ".join(_told(batches)) or "no batches")


def _told(batches: Iterable[Batch]) -> Iterable[str]:
    for batch in batches:
        when = f", expected {batch.eta}" if batch.eta else ""
        counted = f"{batch.allocated:,} of {batch.qty:,} allocated, {batch.available:,} available"
        yield f"batch {batch.ref}{when}: {counted}"
