"""The ways in which the business refuses a command.

DomainError                     (code, kind)
├── InvalidSku                  the SKU was never purchased
├── UnknownBatch                no batch has this reference
├── BatchConflict               the reference belongs to a batch that was created differently
├── StaleBatch                  the batch has changed since the caller looked at it
├── LineConflict                the order line is allocated already, with another SKU or quantity
└── UnknownRefusal              a newer release refused it, for a reason that this one has no class for
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from allocation.domain.batches import Batch
    from allocation.domain.lines import OrderLine


class Kind(Enum):
    """What sort of refusal it is, for whoever answers in the terms of a protocol."""

    INVALID = "invalid"
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    STALE = "stale"


class DomainError(Exception):
    """A rule refused the command; the same again will not help.

    The `code` is stored with a message's outcome, so it never changes. `title`, `example` and the class's docstring
    explain the refusal to whoever sent the command. A subclass makes its text of what it is given; copies, and those
    that were stored, have the text as it was (`restored`).
    """

    code: ClassVar[str]
    kind: ClassVar[Kind]
    title: ClassVar[str]
    example: ClassVar[str]

    @classmethod
    def restored(cls, text: str) -> DomainError:
        return cls.__new__(cls, text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).restored, (str(self),)


class InvalidSku(DomainError):
    """No batch of this SKU has ever been added. Is it spelled as in the batches, capitals included?"""

    code = "invalid_sku"
    kind = Kind.INVALID
    title = "Unknown SKU"
    example = "Invalid sku RED-CHIAR"

    def __init__(self, sku: str) -> None:
        super().__init__(f"Invalid sku {sku}")


class UnknownBatch(DomainError):
    """No batch has this reference."""

    code = "unknown_batch"
    kind = Kind.NOT_FOUND
    title = "Unknown batch"
    example = "Unknown batch b-17"

    def __init__(self, reference: str) -> None:
        super().__init__(f"Unknown batch {reference}")


class BatchConflict(DomainError):
    """A batch was created under this reference before, with another SKU, quantity or ETA. Use another reference, or
    change the quantity of the batch that is there."""

    code = "batch_conflict"
    kind = Kind.CONFLICT
    title = "Batch exists with other values"
    example = "Batch b-17 exists already, created with 20 of RED-CHAIR, eta none (in the warehouse)"

    def __init__(self, batch: Batch) -> None:
        created = f"{batch.initial_quantity} of {batch.sku}, eta {batch.eta or 'none (in the warehouse)'}"
        super().__init__(f"Batch {batch.reference} exists already, created with {created}")


class StaleBatch(DomainError):
    """The batch is not what the caller has seen. Get it again, and decide again."""

    code = "stale_batch"
    kind = Kind.STALE
    title = "Batch has changed"
    example = "Batch b-17 has changed: 20 purchased and 12 allocated now"

    def __init__(self, batch: Batch) -> None:
        purchased, allocated = batch.quantities
        super().__init__(f"Batch {batch.reference} has changed: {purchased} purchased and {allocated} allocated now")


class LineConflict(DomainError):
    """This line of the order is allocated already, with another SKU or quantity. Another line of the same order needs a
    `lineid` of its own."""

    code = "line_conflict"
    kind = Kind.CONFLICT
    title = "Order line is allocated with other values"
    example = "Line RED-CHAIR of order anna-1 is allocated already with 12 of RED-CHAIR"

    def __init__(self, allocated: OrderLine) -> None:
        line = f"Line {allocated.lineid} of order {allocated.orderid}"
        super().__init__(f"{line} is allocated already with {allocated.qty} of {allocated.sku}")


class UnknownRefusal(DomainError):
    """A newer release of the service refused it, for a reason that this one does not know."""

    code = "unknown_refusal"
    kind = Kind.CONFLICT
    title = "Refused by a newer release"
    example = "Order anna-1 is cancelled"
