"""Why there are as many of a SKU as there are: what happened to it, and how much was available after each event.

The newest events are what people ask for, and a history may be long. So this goes back from what is stored now, which
is known, rather than forward from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, cast

from sqlalchemy import Connection, text

from allocation.adapters.wire_names import CODEC
from allocation.domain.events import BatchQuantityChanged, Event
from allocation.service_layer import messages
from allocation.views.batches import COLUMNS, PREFERRED_FIRST, Batch, all_batches_of
from messaging.errors import UnreadableMessage
from messaging.sql.event_log import data_from, time_from

RECKONED = 10_000
"""So many events are gone back at most; further back, what happened is told without the balance."""

_LOOKED_BACK = 100_000


@dataclass(frozen=True, slots=True)
class Balance:
    """How much is available: in the warehouse now, and of what is to come."""

    now: int
    incoming: int

    def __sub__(self, other: Balance) -> Balance:
        return Balance(self.now - other.now, self.incoming - other.incoming)


@dataclass(frozen=True, slots=True)
class Step:
    """An event, the change that it made, and the balance after it; None where that can't be reckoned, and a `time` or
    an `event` None that this version of the service can't read."""

    version: int
    type: str
    time: datetime | None
    principal: str | None
    event: Event | None
    change: Balance | None = None
    after: Balance | None = None


@dataclass(frozen=True, slots=True)
class History:
    """One moment's stock of a SKU, its batches in the order of allocation, and a page of events that led there, the
    newest first. `on_hand` and `allocated` are of the warehouse. `older` is the version before which the next page
    begins, None for the last."""

    sku: str
    balance: Balance
    on_hand: int
    allocated: int
    incoming_allocated: int
    batches: list[Batch]
    steps: list[Step]
    older: int | None


def history(asked: Connection, sku: str, before: int | None, most: int) -> History | None:
    """Of a connection that sees one moment; None for a SKU that was never purchased. `before`: a version."""
    last = asked.execute(_VERSION, {"sku": sku}).scalar()
    if last is None:
        return None
    rows = asked.execute(_BATCHES, {"sku": sku}).all()
    batches = [Batch(*columns) for *columns, _ in rows]
    balance = Balance(
        sum(batch.available for batch in batches if batch.eta is None),
        sum(batch.available for batch in batches if batch.eta is not None),
    )
    end = min(before or last + 1, last + 1)
    first = max(1, end - most)
    is_near = last - first < RECKONED
    steps = list(_steps(asked, sku, first, last if is_near else end - 1))
    if is_near:
        initially = {row.reference: row.initial_quantity for row in rows}
        held_before = _held_before(asked, sku, first, steps, initially)
        steps = reckoned(steps, balance, {batch.ref: batch.eta for batch in batches}, held_before)
    return History(
        sku=sku,
        balance=balance,
        on_hand=sum(batch.qty for batch in batches if batch.eta is None),
        allocated=sum(batch.allocated for batch in batches if batch.eta is None),
        incoming_allocated=sum(batch.allocated for batch in batches if batch.eta is not None),
        batches=batches,
        steps=[step for step in steps if step.version < end][::-1],
        older=first if first > 1 else None,
    )


def reckoned(
    steps: Sequence[Step], now: Balance, eta_of: Mapping[str, date | None], held_before: Mapping[str, int]
) -> list[Step]:
    """The steps, the oldest first, up to that after which the balance is as it is `now`, each with its change and the
    balance after it. `held_before`: what batches held before the first of them. Nothing is reckoned past a step whose
    change is not known."""
    changes = list(_changes(steps, eta_of, dict(held_before)))
    balance: Balance | None = now
    backwards = []
    for step, change in zip(reversed(steps), reversed(changes), strict=True):
        backwards.append(replace(step, change=change, after=balance))
        balance = balance - change if balance and change else None
    return backwards[::-1]


def _changes(
    steps: Iterable[Step], eta_of: Mapping[str, date | None], held: dict[str, int]
) -> Iterator[Balance | None]:
    def of_batch(ref: str, qty: int) -> Balance:
        return Balance(qty, 0) if eta_of.get(ref) is None else Balance(0, qty)

    for step in steps:
        if step.event is None:
            yield None
            continue
        stock = messages.event_row(type(step.event)).stock
        if stock is None:
            yield Balance(0, 0)
            continue
        event: Any = step.event  # one that changes stock has a `qty`
        ref, qty = getattr(event, stock.batch), event.qty
        if stock.purchased == "keeps":
            yield of_batch(ref, -qty * stock.allocated)
        elif stock.purchased == "adds":
            held[ref] = qty
            yield of_batch(ref, qty)
        else:
            yield of_batch(ref, qty - held[ref]) if ref in held else None
            held[ref] = qty


def _steps(asked: Connection, sku: str, first: int, last: int) -> Iterator[Step]:
    for row in asked.execute(_EVENTS, {"sku": sku, "first": first, "last": last}):
        yield Step(row.version, row.type, _time(row.time), row.principal, _event(row.type, row.data))


def _held_before(
    asked: Connection, sku: str, first: int, steps: Iterable[Step], initially: Mapping[str, int]
) -> dict[str, int]:
    """What the batches held whose quantity changes in these steps. One that has not changed in a long time before them
    is left out: nobody looks back so far."""
    refs = {step.event.ref for step in steps if isinstance(step.event, BatchQuantityChanged)}
    if not refs:
        return {}
    oldest = max(1, first - _LOOKED_BACK)
    about = {"sku": sku, "refs": list(refs), "first": first, "oldest": oldest, "changed": _CHANGED}
    events = [_event(row.type, row.data) for row in asked.execute(_EARLIER_CHANGES, about)]
    changed = {event.ref: event.qty for event in events if isinstance(event, BatchQuantityChanged)}
    unchanged = {ref: initially[ref] for ref in refs} if oldest == 1 else {}
    return unchanged | changed


def _event(name: str, data: str) -> Event | None:
    try:
        return cast(Event, CODEC.decode(name, data_from(data)))
    except UnreadableMessage:  # of a newer version of the service, or damaged
        return None


def _time(text: str) -> datetime | None:
    try:
        return time_from(text).astimezone(UTC)
    except (UnreadableMessage, OverflowError):
        return None


_VERSION = text("SELECT version_number FROM products WHERE sku = :sku")
_BATCHES = text(f"""
    SELECT {COLUMNS}, initial_quantity FROM {all_batches_of(":sku")} AS every ORDER BY {PREFERRED_FIRST}
""")  # noqa: S608 - all of it is our own
_EVENTS = text("""
    SELECT version, type, CAST(time AS text) AS time, principal, CAST(data AS text) AS data FROM event_log
    WHERE stream = :sku AND version BETWEEN :first AND :last ORDER BY version
""")
_CHANGED = CODEC.name(BatchQuantityChanged).rpartition(".")[0] + "."  # of any version
_EARLIER_CHANGES = text("""
    SELECT type, CAST(data AS text) AS data FROM event_log
    WHERE stream = :sku AND version < :first AND version >= :oldest AND starts_with(type, :changed)
      AND data ->> 'ref' = ANY(:refs)
    ORDER BY version
""")
