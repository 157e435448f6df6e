"""Why a line would get a batch and not another: by the rule that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from allocation.domain.allocating import Objection, choose, examine
from allocation.domain.batches import Batch
from allocation.domain.errors import InvalidSku
from allocation.domain.lines import LineTerms
from allocation.domain.product import Product


@dataclass(frozen=True, slots=True)
class Candidate:
    """An open batch, in the order in which they are tried."""

    ref: str
    available: int
    verdict: Literal["taken", "passed over"]
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a line would get: the batch, or several when it is split; None when nothing fits."""

    verdict: str | list[str] | None
    candidates: list[Candidate]


def explain(product: Product, qty: int, terms: LineTerms) -> Explanation:
    """Raises InvalidSku. A batch that has nothing left is not among the candidates."""
    if not product.version_number:
        raise InvalidSku(product.sku)
    pieces = {batch.reference: taken for batch, taken in choose(product, qty, terms)}
    candidates = []
    for batch, room, objection in examine(product, qty, terms):
        if taken := pieces.get(batch.reference):
            why = f"has room for all {qty}" if taken == qty else f"gives {taken} of {qty}"
            candidates.append(Candidate(batch.reference, room, "taken", why))
        elif room:
            why = _why(product, batch, qty, terms, objection) if objection else "the others are preferred"
            candidates.append(Candidate(batch.reference, room, "passed over", why))
    refs = list(pieces)
    return Explanation(refs[0] if len(refs) == 1 else refs or None, candidates)


def _why(product: Product, batch: Batch, qty: int, terms: LineTerms, objection: Objection) -> str:
    match objection:
        case Objection.EXPIRED:
            return f"expired {batch.expires}"
        case Objection.ELSEWHERE:
            return f"lies in {batch.location}" if batch.location else "lies at no location that was named"
        case Objection.TOO_LATE:
            overdue = f", overdue since {batch.eta}" if batch.eta and batch.eta < product.today() else ""
            comes = max(batch.eta, product.today()) if batch.eta else "never"
            return f"comes {comes}{overdue}, needed by {terms.needed_by}"
        case Objection.EMPTY:
            return "nothing is available"
        case Objection.TOO_SMALL:
            return f"{batch.available_quantity} available, {qty} asked for, a line goes whole to one batch"
        case _:
            assert_never(objection)
