"""Why a line would get a batch and not another, and when it would have it: by the rule that decides."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

from allocation.domain.allocating import Objection, choose, examine
from allocation.domain.batches import Batch
from allocation.domain.lines import LineTerms, there_on
from allocation.domain.product import Product

Verdict: TypeAlias = str | list[str]
"""The batch that a line would get, or several when it is split."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open batch, in the order in which they are tried."""

    ref: str
    available: int
    verdict: Literal["taken", "passed over"]
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a line would get; None when nothing fits."""

    verdict: Verdict | None
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class Earliest:
    """The day on which a line would have all that it asks for, and of which batch; of several the last one's day."""

    date: datetime.date
    batchref: Verdict


def explain(product: Product, qty: int, terms: LineTerms) -> Explanation:
    """Raises InvalidSku. A batch that has nothing left is not among the candidates."""
    product.require_known()
    pieces = {batch.reference: taken for batch, taken in choose(product, qty, terms)}
    candidates = []
    for batch, room, objection in examine(product, qty, terms):
        if taken := pieces.get(batch.reference):
            why = f"has room for all {qty}" if taken == qty else f"gives {taken} of {qty}"
            candidates.append(Candidate(batch.reference, room, "taken", why))
        elif room:
            why = _why(product, batch, qty, terms, objection) if objection else "the others are preferred"
            candidates.append(Candidate(batch.reference, room, "passed over", why))
    return Explanation(_verdict(pieces), candidates)


def earliest(product: Product, qty: int, terms: LineTerms) -> Earliest | None:
    """When a line could have all of it that came now; None when nothing fits, or not all. The rule decides from where,
    so that it is no earlier day where that prefers a location, or one batch to several."""
    pieces = choose(product, qty, terms)
    verdict = _verdict(batch.reference for batch, _ in pieces)
    if verdict is None or sum(taken for _, taken in pieces) < qty:
        return None
    return Earliest(max(there_on(batch.eta, product.today()) for batch, _ in pieces), verdict)


def _verdict(refs: Iterable[str]) -> Verdict | None:
    taken = list(refs)
    return taken[0] if len(taken) == 1 else taken or None


def _why(product: Product, batch: Batch, qty: int, terms: LineTerms, objection: Objection) -> str:
    match objection:
        case Objection.EXPIRED:
            return f"expired {batch.expires}"
        case Objection.ELSEWHERE:
            return f"lies in {batch.location}" if batch.location else "lies at no location that was named"
        case Objection.TOO_LATE:
            overdue = f", overdue since {batch.eta}" if batch.eta and batch.eta < product.today() else ""
            return f"comes {there_on(batch.eta, product.today())}{overdue}, needed by {terms.needed_by}"
        case Objection.EMPTY:
            return "nothing is available"
        case Objection.TOO_SMALL:
            return f"{batch.available_quantity} available, {qty} asked for, a line goes whole to one batch"
        case _:
            assert_never(objection)
