"""The ways in which the business refuses a command.

DomainError                     (code, kind)
├── InvalidSku                  the SKU was never purchased
├── UnknownBatch                no batch has this reference
├── UnknownLine                 this order line was never promised anything, nor did it wait
├── UnknownOrder                none of its lines was ever promised anything, nor did one wait
├── BatchConflict               the reference belongs to a batch that was created differently
├── StaleBatch                  the batch has changed since the caller looked at it
├── StaleQuantity               a quantity is another than the one that the caller expected
├── LineConflict                the order line is placed already, with another SKU or quantity
├── DocumentConflict            the document's number was used before, for something else
├── OrderIsCancelled            nothing more is promised to it
├── OrderIsComplete             all of it has left, so nothing can be cancelled
├── NotArrived                  the batch is expected, and what is not here can't leave
├── AlreadyArrived              the batch is in the warehouse, so it is not expected any more
├── ImpossibleReceipt           the numbers of a receipt contradict each other
├── NotEnough                   there is less than was named
├── BelowDispatched             so little a batch can't have held, or a line be of, since more has left
├── NoRoom                      no batch has room for more of a line, or for a hold
├── HoldConflict                the id belongs to a hold of another quantity
├── HoldIsOver                  the hold has ended, or never was
├── BatchIsExpired              what is past its day is not for sale
└── UnknownRefusal              a newer release refused it, for a reason that this one has no class for
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from allocation.domain.batches import Batch
    from allocation.domain.holds import Hold
    from allocation.domain.lines import PlacedLine


class Kind(Enum):
    """What sort of refusal it is, for whoever answers in the terms of a protocol."""

    INVALID = "invalid"
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    STALE = "stale"


class DomainError(Exception):
    """A rule refused the command; the same again will not help.

    The `code` is stored with a message's outcome, so it never changes. `title`, `example` and the class's docstring
    explain the refusal to whoever sent the command. A subclass makes its text of what it is given; copies have the
    text as it was.
    """

    code: ClassVar[str]
    kind: ClassVar[Kind]
    title: ClassVar[str]
    example: ClassVar[str]
    numbers: Mapping[str, int] = MappingProxyType({})
    """Those in its text, by name, for programs."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).__new__, (type(self), str(self)), {"numbers": dict(self.numbers)}


class InvalidSku(DomainError):
    """No batch of this SKU has ever been added. Is it spelled as in the batches, capitals included?"""

    code = "invalid_sku"
    kind = Kind.INVALID
    title = "Unknown SKU"
    example = "Invalid sku RED-CHIAR"

    def __init__(self, sku: str) -> None:
        super().__init__(f"Invalid sku {sku}")


class UnknownBatch(DomainError):
    """No batch has this reference, or not one of this SKU."""

    code = "unknown_batch"
    kind = Kind.NOT_FOUND
    title = "Unknown batch"
    example = "Unknown batch b-17"

    def __init__(self, reference: str, sku: str = "", is_of: str = "") -> None:
        super().__init__(f"Unknown batch {reference}" + (f" of {sku}: it is of {is_of}" if is_of else ""))


class UnknownLine(DomainError):
    """This line was never promised anything, nor did it wait. One without an id of its own is known by its SKU."""

    code = "unknown_line"
    kind = Kind.NOT_FOUND
    title = "Unknown order line"
    example = "Unknown line 2 of order anna-1"

    def __init__(self, orderid: str, lineid: str) -> None:
        super().__init__(f"Unknown line {lineid} of order {orderid}")


class UnknownOrder(DomainError):
    """No line of this order was ever promised anything, nor did one wait."""

    code = "unknown_order"
    kind = Kind.NOT_FOUND
    title = "Unknown order"
    example = "Unknown order anna-1"

    def __init__(self, orderid: str) -> None:
        super().__init__(f"Unknown order {orderid}")


class BatchConflict(DomainError):
    """A batch was created under this reference before, with another SKU, quantity, ETA, expiry or location. Use
    another reference: two lots are two batches."""

    code = "batch_conflict"
    kind = Kind.CONFLICT
    title = "Batch exists with other values"
    example = "Batch b-17 exists already, created with 20 of RED-CHAIR, eta none (in the warehouse); asked for: qty 25"

    def __init__(self, batch: Batch, **given: object) -> None:
        """`given`: what was asked for and differs."""
        created = f"{batch.initial_quantity} of {batch.sku}, eta {batch.initial_eta or 'none (in the warehouse)'}"
        if batch.expires or batch.initial_expires or "expires" in given:
            created += f", expires {batch.initial_expires or 'never'}"
        if batch.expires != batch.initial_expires:
            created += f", received with {batch.expires}"
        if batch.location or "location" in given:
            created += f", location {batch.location or 'none'}"
        if given:
            shown = {name: "none" if value in {None, ""} else value for name, value in given.items()}
            created += "; asked for: " + ", ".join(f"{name} {value}" for name, value in shown.items())
        super().__init__(f"Batch {batch.reference} exists already, created with {created}")


class StaleBatch(DomainError):
    """The batch is not what the caller has seen. Get it again, and decide again."""

    code = "stale_batch"
    kind = Kind.STALE
    title = "Batch has changed"
    example = "Batch b-17 has changed: 20 purchased and 12 allocated now"

    def __init__(self, batch: Batch) -> None:
        eta = f", eta {batch.eta}" if batch.eta else ""
        now = f"{batch.purchased_quantity} purchased and {batch.promised_quantity} allocated now{eta}"
        super().__init__(f"Batch {batch.reference} has changed: {now}")


class StaleQuantity(DomainError):
    """A quantity is not the one that you have seen. Look again, or count again, and decide again."""

    code = "quantity_stale"
    kind = Kind.CONFLICT
    title = "Quantity has changed"
    example = "12 of batch b-17 are on the shelf now, not 13: count again"

    def __init__(self, text: str, now: int) -> None:
        super().__init__(text)
        self.numbers = {"is": now}

    @classmethod
    def of_batch(cls, batch: Batch, expected: int) -> StaleQuantity:
        now = f"{batch.on_shelf} of batch {batch.reference} are on the shelf now"
        return cls(f"{now}, not {expected}: count again", batch.on_shelf)

    @classmethod
    def of_line(cls, line: PlacedLine, expected: int) -> StaleQuantity:
        return cls(f"Line {line.lineid} of order {line.orderid} is of {line.qty} now, not {expected}", line.qty)


class LineConflict(DomainError):
    """This line of the order is placed already, with another SKU or quantity. Another line of the same order needs a
    `lineid` of its own."""

    code = "line_conflict"
    kind = Kind.CONFLICT
    title = "Order line is allocated with other values"
    example = "Line RED-CHAIR of order anna-1 is allocated already with 12 of RED-CHAIR"

    def __init__(self, placed: PlacedLine) -> None:
        line = f"Line {placed.lineid} of order {placed.orderid}"
        so_far = "waits already for" if placed.waiting == placed.qty else "is allocated already with"
        has_left = placed.dispatched > 0 or placed.returned > 0
        of_which = [f"{placed.dispatched} have left"] if has_left else []
        of_which += [f"{placed.returned} came back"] if placed.returned else []
        of_which += [f"{placed.waiting} wait"] if 0 < placed.waiting < placed.qty else []
        text = f"{line} {so_far} {placed.qty} of {placed.sku}"
        text += f", of which {', '.join(of_which)}" if of_which else ""
        text += ": use another lineid" if has_left else ""
        if placed.returned and not placed.has_pieces:
            text = f"{line} is not placed again, since all {placed.qty} of {placed.sku} came back: use another lineid"
        super().__init__(text)


class DocumentConflict(DomainError):
    """This number was used before, with other contents. Give each receipt, count, parcel and so on a number of its
    own; the same number with the same contents counts once."""

    code = "document_conflict"
    kind = Kind.CONFLICT
    title = "Document exists with other contents"
    example = "Receipt r-1 of batch b-17 exists already: 60 received, 5 damaged"

    def __init__(self, document: str, contents: str) -> None:
        super().__init__(f"{document} exists already: {contents}")


class OrderIsCancelled(DomainError):
    """The order was cancelled, and nothing more is promised to it. Place another order."""

    code = "order_cancelled"
    kind = Kind.CONFLICT
    title = "Order is cancelled"
    example = "Order anna-1 is cancelled"

    def __init__(self, orderid: str) -> None:
        super().__init__(f"Order {orderid} is cancelled")


class OrderIsComplete(DomainError):
    """All of the order has left the warehouse. What comes back is a return."""

    code = "order_complete"
    kind = Kind.CONFLICT
    title = "Order is complete"
    example = "All 15 of order anna-1 have left; they come back as returns"

    def __init__(self, orderid: str, dispatched: int) -> None:
        super().__init__(f"All {dispatched} of order {orderid} have left; they come back as returns")


class NotArrived(DomainError):
    """The batch is expected, and what is not here can't leave, be counted or be quarantined. Receive it first."""

    code = "not_arrived"
    kind = Kind.CONFLICT
    title = "Batch has not arrived"
    example = "Batch by-ship is expected on 2031-01-01; receive it first"

    def __init__(self, batch: Batch) -> None:
        super().__init__(f"Batch {batch.reference} is expected on {batch.eta}; receive it first")


class AlreadyArrived(DomainError):
    """The batch is in the warehouse, so it is not expected on any day."""

    code = "already_arrived"
    kind = Kind.CONFLICT
    title = "Batch has arrived"
    example = "Batch b-17 has arrived"

    def __init__(self, batch: Batch) -> None:
        super().__init__(f"Batch {batch.reference} has arrived")


class ImpossibleReceipt(DomainError):
    """The numbers of this receipt contradict each other, or what is known of the batch, or make it too large."""

    code = "impossible_receipt"
    kind = Kind.INVALID
    title = "Impossible receipt"
    example = "damaged: 7 of 5 that were received"


class NotEnough(DomainError):
    """There is less of it than was named."""

    code = "not_enough"
    kind = Kind.CONFLICT
    title = "Not enough"
    example = "8 of line 1 of order anna-1: 12 ordered − 5 dispatched = 7 promised"

    def __init__(self, text: str, possible: int) -> None:
        super().__init__(text)
        self.numbers = {"possible": possible}

    @classmethod
    def on_shelf(cls, batch: Batch, qty: int) -> NotEnough:
        return cls(f"{qty} of batch {batch.reference}: {batch.on_shelf} are on the shelf", batch.on_shelf)


class BelowDispatched(DomainError):
    """A batch can't have held less than what has left of it and what is in quarantine; nor can a line be of less than
    what has left for it."""

    code = "below_dispatched"
    kind = Kind.CONFLICT
    title = "Less than has left"
    example = "Batch b-17 held at least 7: 5 dispatched + 2 quarantined"

    def __init__(self, text: str, minimum: int) -> None:
        super().__init__(text)
        self.numbers = {"minimum": minimum}

    @classmethod
    def of_batch(cls, batch: Batch) -> BelowDispatched:
        dispatched, quarantined = batch.dispatched_quantity, batch.quarantined_quantity
        least = f"{dispatched + quarantined}: {dispatched} dispatched + {quarantined} quarantined"
        return cls(f"Batch {batch.reference} held at least {least}", dispatched + quarantined)

    @classmethod
    def of_line(cls, line: PlacedLine) -> BelowDispatched:
        left = line.dispatched + line.returned
        returned = f" + {line.returned} returned" if line.returned else ""
        least = f"{left}: {line.dispatched} dispatched{returned}"
        return cls(f"Line {line.lineid} of order {line.orderid} is of at least {least}", left)


class NoRoom(DomainError):
    """No batch has room for what a line is to have more, or for what is to be held, so nothing has changed."""

    code = "no_room"
    kind = Kind.CONFLICT
    title = "No room"
    example = "188 more for line 1 of order anna-1, which has 12: at most 3 are available in one batch"

    def __init__(self, text: str, requested: int, largest: int) -> None:
        super().__init__(text)
        self.numbers = {"requested": requested, "largest": largest}

    @classmethod
    def for_line(cls, line: PlacedLine, requested: int, largest: int) -> NoRoom:
        text = f"{requested} more for line {line.lineid} of order {line.orderid}, which has {line.qty}: "
        text += f"at most {largest} are available in one batch" if line.qty else "place it again"
        return cls(text, requested, largest)

    @classmethod
    def for_hold(cls, sku: str, requested: int, largest: int) -> NoRoom:
        text = f"{requested} of {sku} to hold: at most {largest} are available in one batch"
        return cls(text, requested, largest)


class HoldConflict(DomainError):
    """This id holds another quantity of the SKU. Give it up first, or use another id."""

    code = "hold_conflict"
    kind = Kind.CONFLICT
    title = "Hold exists with another quantity"
    example = "Hold cart-9 of RED-CHAIR exists already, of 2 until 2031-01-01T10:10:00Z"

    def __init__(self, hold: Hold) -> None:
        until = hold.until.isoformat(timespec="seconds").replace("+00:00", "Z")
        super().__init__(f"Hold {hold.hold_id} of {hold.sku} exists already, of {hold.qty} until {until}")


class HoldIsOver(DomainError):
    """Nothing is held under this id: it ran out, was given up or taken over, its batch fell short, or it never
    was. Place the line, or another hold."""

    code = "hold_over"
    kind = Kind.CONFLICT
    title = "Hold is over"
    example = "Nothing of RED-CHAIR is held under cart-9: it ran out, was given up, or never was"

    def __init__(self, sku: str, hold_id: str) -> None:
        super().__init__(f"Nothing of {sku} is held under {hold_id}: it ran out, was given up, or never was")

    @classmethod
    def with_expired_goods(cls, hold: Hold, batch: Batch) -> HoldIsOver:
        refusal = cls(hold.sku, hold.hold_id)
        refusal.args = (f"What {hold.hold_id} holds of {hold.sku} expired on {batch.expires}",)
        return refusal


class BatchIsExpired(DomainError):
    """What is past its day is not for sale. Write it off."""

    code = "batch_expired"
    kind = Kind.CONFLICT
    title = "Batch is expired"
    example = "Batch b-17 expired on 2031-01-01"

    def __init__(self, batch: Batch) -> None:
        super().__init__(f"Batch {batch.reference} expired on {batch.expires}")


class UnknownRefusal(DomainError):
    """A newer release of the service refused it, for a reason that this one does not know."""

    code = "unknown_refusal"
    kind = Kind.CONFLICT
    title = "Refused by a newer release"
    example = "Order anna-1 is cancelled"
