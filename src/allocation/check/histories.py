"""Every product against its history: version, batches and allocations are what its events say when they are replayed.

The log and what is stored are walked side by side, one SKU at a time, so that no more is ever in memory than one SKU's
batches and allocations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any, TypeAlias

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Text, cast, select

from allocation.adapters.product_queries import ALLOCATION, BATCH_FIELDS, STORED_AS, terms_from
from allocation.adapters.product_writes import backorder_row
from allocation.adapters.wire_names import CODEC
from allocation.check.difference import Difference, UnknownEvent, the_batch, the_event, the_line
from allocation.check.streams import pairs, side_by_side, stream
from allocation.database.tables import allocations, backorders, batches, documents, holds, order_lines, products
from allocation.domain.events import Event
from allocation.domain.holds import Hold
from allocation.domain.lines import SINGLE_LINE, Allocation, LineTerms
from allocation.domain.product import Product
from messaging.errors import UnknownMessage, UnreadableMessage
from messaging.sql.event_log import data_from, time_from
from messaging.sql.tables import event_log

_EVENTS = select(
    event_log.c.stream,
    event_log.c.version,
    event_log.c.type,
    cast(event_log.c.data, Text).label("data"),
    cast(event_log.c.time, Text).label("time"),
).order_by(event_log.c.stream, event_log.c.version)
_PRODUCTS = select(products.c.sku, products.c.version_number, products.c.waiting, products.c.holds).order_by(
    products.c.sku
)
_BATCHES = select(
    batches.c.sku,
    batches.c.reference,
    *(
        STORED_AS[name] if name in STORED_AS else batches.c[name]
        for name in BATCH_FIELDS
        if name not in ("sku", "reference")
    ),
).order_by(batches.c.sku, batches.c.reference)
_ALLOCATIONS = select(*ALLOCATION).order_by(allocations.c.sku, allocations.c.version)
_LINES = (
    select(
        *(order_lines.c[name] for name in ("sku", "orderid", "lineid", "returned", "since")),
        cast(order_lines.c.terms, Text).label("terms"),
    )
    .where((order_lines.c.returned > 0) | order_lines.c.terms.is_not(None))
    .order_by(order_lines.c.sku, order_lines.c.orderid, order_lines.c.lineid)
)
_BACKORDERS = select(backorders).order_by(backorders.c.sku, backorders.c.since)
_HOLDS = select(holds).order_by(holds.c.sku, holds.c.hold_id)
_DOCUMENTS = select(
    documents.c.sku, documents.c.version, documents.c.about, documents.c.part, documents.c.kind, documents.c.number
).order_by(documents.c.sku, documents.c.version)


OnProgress: TypeAlias = Callable[[int, str], None]
"""Takes how many events were replayed up to now, and what is being looked at."""

_PROGRESS_EVERY = 1_000


def differences(connection: Connection, on_progress: OnProgress) -> Iterator[Difference]:
    events = 0
    statements = _EVENTS, _PRODUCTS, _BATCHES, _ALLOCATIONS, _LINES, _BACKORDERS, _HOLDS, _DOCUMENTS
    streams = (stream(connection, statement) for statement in statements)
    for sku, (log, product, batches_of_sku, allocations_of_sku, lines, waiting, held, numbers) in side_by_side(
        *streams
    ):
        history = History(sku)
        for row in log:
            yield from history.take(row)
            events += 1
            if events % _PROGRESS_EVERY == 0:
                on_progress(events, "histories")
        stored = next(iter(product), None)
        yield from history.version_differences(stored)
        if history.is_whole:
            yield from history.waiting_differences(stored, waiting)
            yield from history.batch_differences(batches_of_sku)
            yield from history.allocation_differences(allocations_of_sku)
            yield from history.line_differences(lines)
            yield from history.hold_differences(stored, held)
            yield from history.document_differences(numbers)


class History:
    """One product's events, taken from the log one by one, and the product as they leave it.

    When one is missing or makes no sense, the history is not whole: later events are still looked at, each for itself,
    but where they lead can't be known.
    """

    def __init__(self, sku: str) -> None:
        self.is_whole = True
        self._sku = sku
        self._last_version = 0
        self._product = Product(sku)

    def take(self, row: Row[Any]) -> Iterator[Difference]:
        for difference in self._faults(row):
            self.is_whole = False
            yield difference
        self._last_version = row.version

    def _faults(self, row: Row[Any]) -> Iterator[Difference]:
        following = self._last_version + 1
        if row.version != following:
            yield Difference(f"history of {self._sku!r}, version after {self._last_version}", following, row.version)
        what = the_event(row.version, self._sku)
        try:
            time_from(row.time)
            event: Event = CODEC.decode(row.type, data_from(row.data))  # type: ignore[assignment]  # it knows no others
        except UnknownMessage:
            yield UnknownEvent(what, "one that this release knows", row.type)
            return
        except UnreadableMessage as error:
            yield Difference(what, "one that can be read", " ".join(str(error).split()))
            return
        if event.sku != self._sku:
            yield Difference(f"{what}, SKU", repr(self._sku), repr(event.sku))
        elif self.is_whole:
            try:
                self._product.apply(event)
            except KeyError as unknown:
                yield Difference(f"{what}, batch or line", "one that is known", unknown)

    def version_differences(self, stored: Row[Any] | None) -> Iterator[Difference]:
        expected = self._last_version or None
        found = stored.version_number if stored else None
        if found != expected:
            yield Difference(f"product {self._sku!r}, version by its history", expected, found)

    def batch_differences(self, stored: Iterable[Row[Any]]) -> Iterator[Difference]:
        replayed = sorted((batch.reference, batch) for batch in self._product.batches.of(self._sku))
        for reference, expected, found in pairs(replayed, ((row.reference, row) for row in stored)):
            what = the_batch(reference, self._sku)
            if expected is None or found is None:
                yield Difference(f"{what}, rows by its history", int(bool(expected)), int(bool(found)))
                continue
            for name in BATCH_FIELDS:
                if getattr(expected, name) != getattr(found, name):
                    field = f"{what}, {name.replace('_', ' ')} by its history"
                    yield Difference(field, getattr(expected, name), getattr(found, name))

    def allocation_differences(self, stored: Iterable[Row[Any]]) -> Iterator[Difference]:
        lines = self._product.lines.of_sku(self._sku).values()
        replayed = sorted((one.version, one) for line in lines for one in line.allocations)
        for version, expected, found in pairs(replayed, ((row.version, Allocation(*tuple(row))) for row in stored)):
            if expected != found:
                yield Difference(
                    f"allocation {version} of {self._sku!r} by its history", _in_words(expected), _in_words(found)
                )

    def line_differences(self, stored: Iterable[Row[Any]]) -> Iterator[Difference]:
        """What came back of a line, and on which terms it waits. A line that had nothing left may be of another SKU."""
        replayed = sorted(
            (key, line)
            for key, line in self._product.lines.of_sku(self._sku).items()
            if line.returned or line.terms != SINGLE_LINE
        )
        for key, line, row in pairs(replayed, (((row.orderid, row.lineid), row) for row in stored)):
            if row is None and line and not (line.has_pieces or line.returned):
                continue
            what = the_line(*key)
            returned = line and line.returned, row and row.returned
            if returned[0] != returned[1]:
                yield Difference(f"{what}, returned by its history", *returned)
            terms = (line.since, line.terms) if line else None, row and (row.since or 0, _terms(row.terms))
            if terms[0] != terms[1]:
                yield Difference(f"{what}, since and terms by its history", *terms)

    def waiting_differences(self, product: Row[Any] | None, stored: Iterable[Row[Any]]) -> Iterator[Difference]:
        lines = self._product.lines.of_sku(self._sku).values()
        rows = (backorder_row(line) for line in lines if line.waiting)
        replayed = sorted(((row["since"], row) for row in rows), key=itemgetter(0))
        for since, expected, found in pairs(replayed, ((row.since, row._asdict()) for row in stored)):
            if expected != found:
                yield Difference(f"backorder {since} of {self._sku!r} by its history", expected, found)
        if product and product.waiting != len(replayed):
            yield Difference(f"product {self._sku!r}, lines that wait by its history", len(replayed), product.waiting)

    def hold_differences(self, product: Row[Any] | None, stored: Iterable[Row[Any]]) -> Iterator[Difference]:
        replayed = sorted((hold.hold_id, hold) for hold in self._product.holds.of_sku(self._sku).values())
        for hold_id, expected, found in pairs(replayed, ((row.hold_id, Hold(**row._mapping)) for row in stored)):
            if expected != found:
                yield Difference(f"hold {hold_id!r} of {self._sku!r} by its history", expected, found)
        if product and product.holds != len(replayed):
            yield Difference(f"product {self._sku!r}, holds by its history", len(replayed), product.holds)

    def document_differences(self, stored: Iterable[Row[Any]]) -> Iterator[Difference]:
        noted = self._product.documents.new.items()
        replayed = sorted((entry.version, key) for key, entries in noted for entry in entries)
        for version, expected, found in pairs(replayed, ((row.version, tuple(row)[2:]) for row in stored)):
            if expected != found:
                yield Difference(f"document of {the_event(version, self._sku)}", expected, found)


def _terms(stored: str | None) -> LineTerms | str:
    """Or what is stored instead."""
    try:
        return terms_from(data_from(stored) if stored is not None else None)
    except (UnreadableMessage, ValidationError):
        return f"what can't be read: {stored:.60}"


def _in_words(allocation: Allocation | None) -> str | None:
    if allocation is None:
        return None
    line = the_line(allocation.orderid, allocation.lineid)
    left = f" and {allocation.dispatched} dispatched" if allocation.dispatched else ""
    needed_by = f", needed by {allocation.needed_by}" if allocation.needed_by else ""
    priority = f", of priority {allocation.priority}" if allocation.priority != SINGLE_LINE.priority else ""
    return (
        f"{allocation.promised}{left} of {allocation.sku!r} for {line} from batch {allocation.batchref!r}"
        f"{needed_by}{priority}"
    )
