"""Why there are as many of a SKU as there are: what happened to it, and how much was available after each event.

The newest events are what people ask for, and a history may be long. So this goes back from what is stored now, which
is known, rather than forward from the beginning.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, text

from allocation.adapters.wire_names import CODEC
from allocation.domain.events import Event
from allocation.service_layer import messages
from allocation.service_layer.messages.table import StockChange
from allocation.views.batches import COLUMNS, PREFERRED_FIRST, RECORDED, Batch, all_batches_of
from messaging.errors import UnreadableMessage
from messaging.sql.event_log import data_from, time_from

RECKONED = 10_000
"""So many events are gone back at most; further back, what happened is shown without the balance."""

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
class Figures:
    """What there is: `available`, `on_hand`, `allocated`, `held` and `quarantined` in the warehouse, and what is to
    come. What has left is in none of them, nor is what has expired but in `expired`: what is here of it, promised to
    nobody."""

    available: int
    on_hand: int
    allocated: int
    held: int
    quarantined: int
    incoming: int
    incoming_allocated: int
    expired: int


@dataclass(frozen=True, slots=True)
class History:
    """One moment's stock of a SKU: all of its batches in the order of allocation, and a page of events that led there,
    the newest first. `older` is the version before which the next page begins, None for the last. So much has expired,
    or run out, since: it is `unrecorded`, and the balance after the last event does not know of it."""

    sku: str
    batches: list[Batch]
    steps: list[Step]
    older: int | None
    unrecorded: int = 0

    @property
    def figures(self) -> Figures:
        sold = [one for one in self.batches if one.state != "expired"]
        here, incoming = [one for one in sold if one.eta is None], [one for one in sold if one.eta is not None]
        return Figures(
            available=sum(one.available for one in here),
            on_hand=sum(one.qty - one.dispatched for one in here),
            allocated=sum(one.allocated for one in here),
            held=sum(one.held for one in here),
            quarantined=sum(one.quarantined for one in here),
            incoming=sum(one.available for one in incoming),
            incoming_allocated=sum(one.allocated for one in incoming),
            expired=sum(one.available + one.quarantined for one in self.batches if one.state == "expired"),
        )


def history(connection: Connection, sku: str, before: int | None, most: int, zone: str) -> History | None:
    """Of a connection that sees one moment; None for a SKU that was never purchased. `before`: a version."""
    last = connection.execute(_VERSION, {"sku": sku}).scalar()
    if last is None:
        return None
    rows = connection.execute(_BATCHES, {"sku": sku, "zone": zone}).all()
    batches = [Batch(*columns) for *columns, _, _, _ in rows]
    end = min(before or last + 1, last + 1)
    first = max(1, end - most)
    is_near = last - first < RECKONED
    steps = list(_steps(connection, sku, first, last if is_near else end - 1))
    if is_near:
        initially = {row.reference: row.initial_quantity for row in rows}
        purchased = _purchased_before(connection, sku, first, steps, initially)
        recorded = [replace(batch, available=row.recorded) for batch, row in zip(batches, rows, strict=True)]
        steps = reckoned(steps, recorded, purchased, {row.added for row in rows})
    return History(
        sku=sku,
        batches=batches,
        steps=[step for step in steps if step.version < end][::-1],
        older=first if first > 1 else None,
        unrecorded=sum(
            abs((batch.available if batch.state != "expired" else 0) - row.recorded)
            for batch, row in zip(batches, rows, strict=True)
        ),
    )


@dataclass(slots=True)
class _Held:
    """A batch at some moment: how much of it is available, and whether that is in the warehouse."""

    available: int
    is_here: bool


def reckoned(
    steps: Sequence[Step], now: Iterable[Batch], purchased: Mapping[str, int], arrivals: Collection[int]
) -> list[Step]:
    """The steps, the oldest first, up to that after which the batches are as they are `now`, each with its change
    and the balance after it. `purchased`: what batches had brought before the first of them; `arrivals`: the versions
    at which one came to be in the warehouse. Nothing is reckoned past a step whose change is not known."""
    set_anew = _set_anew(steps, dict(purchased))
    held = {one.ref: _Held(one.available, one.eta is None) for one in now}
    after: Balance | None = _sum(held)
    backwards = []
    for step in reversed(steps):
        before = _undone(step, held, set_anew, arrivals) if after else None
        backwards.append(replace(step, change=after - before if after and before else None, after=after))
        after = before
    return backwards[::-1]


def _sum(held: Mapping[str, _Held]) -> Balance:
    here = sum(one.available for one in held.values() if one.is_here)
    return Balance(here, sum(one.available for one in held.values()) - here)


def _set_anew(steps: Iterable[Step], purchased: dict[str, int]) -> dict[int, int]:
    """By how much a batch brought more than before, by the version of an event that says what it brought."""
    by: dict[int, int] = {}
    for step in steps:
        change = _change_of(step)
        if change is None:
            continue
        stock, ref, qty = change
        if stock.purchased == "adds":
            purchased[ref] = qty
        elif stock.purchased == "loses" and ref in purchased:
            purchased[ref] -= qty
        elif stock.purchased == "sets":
            if ref in purchased:
                by[step.version] = qty - purchased[ref]
            purchased[ref] = qty
    return by


def _change_of(step: Step) -> tuple[StockChange, str, int] | None:
    """What its event does to which batch, and the quantity by which it does."""
    event: Any = step.event
    stock = messages.event_row(type(event)).stock if event else None
    ref = getattr(event, stock.batch) if stock else None
    return (stock, ref, event.qty) if stock and ref is not None else None


def _undone(
    step: Step, held: dict[str, _Held], set_anew: Mapping[int, int], arrivals: Collection[int]
) -> Balance | None:
    """The balance before a step, with each batch as it was then; None where that can't be known."""
    if step.event is None:
        return None
    change = _change_of(step)
    if change is None:
        return _sum(held)
    stock, ref, qty = change
    if ref not in held or (stock.purchased == "sets" and step.version not in set_anew):
        return None
    batch = held[ref]
    batch.available += qty * stock.taken
    if stock.purchased == "adds":
        del held[ref]
    elif stock.purchased == "loses":
        batch.available += qty
    elif stock.purchased == "sets":
        batch.available -= set_anew[step.version]
    if stock.arrives and step.version in arrivals:
        batch.is_here = False
    return _sum(held)


def _steps(connection: Connection, sku: str, first: int, last: int) -> Iterator[Step]:
    for row in connection.execute(_EVENTS, {"sku": sku, "first": first, "last": last}):
        yield Step(row.version, row.type, _time(row.time), row.principal, _event(row.type, row.data))


def _purchased_before(
    connection: Connection, sku: str, first: int, steps: Iterable[Step], initially: Mapping[str, int]
) -> dict[str, int]:
    """What the batches had brought whose quantity is set anew in these steps. One that has not changed in a long time
    before them is left out: nobody looks back so far."""
    changes = (_change_of(step) for step in steps)
    refs = {ref for stock, ref, _ in filter(None, changes) if stock.purchased == "sets"}
    if not refs:
        return {}
    oldest = max(1, first - _LOOKED_BACK)
    purchased = {ref: initially[ref] for ref in refs} if oldest == 1 else {}
    about = {"sku": sku, "refs": list(refs), "first": first, "oldest": oldest, "changed": _CHANGED}
    rows = connection.execute(_EARLIER_CHANGES, about)
    _set_anew((Step(0, row.type, None, None, _event(row.type, row.data)) for row in rows), purchased)
    return purchased


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
    SELECT {COLUMNS}, initial_quantity, added, {RECORDED} AS recorded
    FROM {all_batches_of(":sku")} AS every ORDER BY {PREFERRED_FIRST}
""")  # noqa: S608 - all of it is our own
_EVENTS = text("""
    SELECT version, type, CAST(time AS text) AS time, principal, CAST(data AS text) AS data FROM event_log
    WHERE stream = :sku AND version BETWEEN :first AND :last ORDER BY version
""")
_CHANGED = [  # of any version
    row.name.rpartition(".")[0] + ".%" for row in messages.EVENTS if row.stock and row.stock.purchased != "keeps"
]
_EARLIER_CHANGES = text("""
    SELECT type, CAST(data AS text) AS data FROM event_log
    WHERE stream = :sku AND version < :first AND version >= :oldest AND type LIKE ANY (:changed)
      AND data ->> 'ref' = ANY(:refs)
    ORDER BY version
""")
