"""Batches drawn as bars, and put into words for those who do not see them."""

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
    """One bar for the batches side by side: all of what is there; or, as long as `whole`, also what has left."""
    length = whole or sum(batch.qty - batch.dispatched for batch in batches)
    pieces, x = [], 0.0
    for batch in batches:
        for kind, qty in _parts(batch, with_dispatched=whole is not None):
            if qty and length:
                width = 100 * qty / length
                pieces.append(Piece(kind, round(x, 3), round(width, 3)))
                x += width
    return Bar(pieces, "; ".join(_told(batches)) or "no batches")


def _parts(batch: Batch, *, with_dispatched: bool) -> Iterable[tuple[str, int]]:
    yield "allocated", batch.allocated
    yield "held", batch.held
    yield "quarantined", batch.quarantined
    if batch.state == "expired":
        yield "quarantined", batch.available
    else:
        yield "available" if batch.eta is None else "incoming", batch.available
    if with_dispatched:
        yield "dispatched", batch.dispatched


def state_in_words(batch: Batch) -> str:
    match batch.state:
        case "expired":
            return f"expired after {batch.expires}"
        case "overdue":
            return f"overdue, expected {batch.eta}"
        case "expected":
            return f"expected {batch.eta}"
        case "received":
            return f"in the warehouse, sold until {batch.expires}" if batch.expires else "in the warehouse"


def _told(batches: Iterable[Batch]) -> Iterable[str]:
    for batch in batches:
        when = "" if batch.state == "received" else f", {state_in_words(batch)}"
        parts = [f"{batch.allocated:,} of {batch.qty:,} allocated"]
        parts += [f"{batch.held:,} held"] if batch.held else []
        parts += [f"{batch.quarantined:,} in quarantine"] if batch.quarantined else []
        parts += [f"{batch.dispatched:,} dispatched"] if batch.dispatched else []
        parts += [f"{batch.available:,} {'not for sale' if batch.state == 'expired' else 'available'}"]
        yield f"batch {batch.ref}{when}: {', '.join(parts)}"
