"""Products from rows and back: loaded in constant time, and what differs at the end is written.

The version and the best open batches of a product are read at once, the rest when a rule needs it. What was read is
kept as it was, so that a row is written only where a batch or a line is not what was read. Counters are written as
differences: the CHECK constraint, the last line of defence, then compares with the row as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import date, datetime, tzinfo
from functools import reduce
from itertools import starmap
from operator import attrgetter
from operator import or_ as or_bits
from typing import Any, TypeAlias, cast
from zlib import crc32

from pydantic import TypeAdapter
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    and_,
    case,
    column,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union,
    update,
)

from allocation.adapters.wire_names import CODEC
from allocation.database.tables import (
    allocations,
    backorders,
    batch_references,
    batches,
    documents,
    order_lines,
    orders,
    products,
)
from allocation.domain.batches import Batch, Batches
from allocation.domain.documents import DocumentKey, Documents, Entry
from allocation.domain.errors import UnknownBatch, UnknownLine
from allocation.domain.events import Event
from allocation.domain.lines import SINGLE_LINE, Allocation, LineKey, Lines, LineTerms, OrderLine, PlacedLine
from allocation.domain.product import Product
from allocation.service_layer.ports import Lookups
from messaging.envelope import NewEvent
from messaging.errors import IsLong
from messaging.sql.statements import (
    Ask,
    Query,
    Row,
    Rows,
    Statement,
    Write,
    compiled,
    insert_or_update_rows,
    insert_rows,
    rows_of,
    write_rows,
)
from messaging.sql.tables import event_log

_Change: TypeAlias = tuple[PlacedLine | None, PlacedLine]
"""A line as it was read, and as it is now."""

TERMS = TypeAdapter(LineTerms)

LARGEST_LINE = 2**31 - 1

AT_HAND = 20
"""Of so many open batches a product is loaded with, the preferred ones: mostly the first has room."""

BATCH_FIELDS = [field.name for field in fields(Batch)]
STORED_AS: dict[str, ColumnElement[Any]] = {
    "taken_quantity": batches.c.allocated_quantity.label("taken_quantity"),
    "initial_eta": func.coalesce(batches.c.initial_eta, batches.c.eta).label("initial_eta"),  # as long as none differs
}
_BATCH: list[ColumnElement[Any]] = [
    STORED_AS[name] if name in STORED_AS else batches.c[name] for name in BATCH_FIELDS
]  # by position: by name takes three times as long
_row_of = attrgetter(*BATCH_FIELDS)
_COUNTERS = {
    column: BATCH_FIELDS.index(field)
    for column, field in {
        "purchased_quantity": "purchased_quantity",
        "allocated_quantity": "taken_quantity",
        "held_quantity": "held_quantity",
        "dispatched_quantity": "dispatched_quantity",
        "quarantined_quantity": "quarantined_quantity",
    }.items()
}
_TERMS = ("eta", "expires", "initial_eta", "initial_expires", "added")
_terms_of = attrgetter(*_TERMS)
_PLACES_OF_TERMS = [BATCH_FIELDS.index(name) for name in _TERMS]


class SqlAlchemyProducts:
    """The products of one unit of work. `ask` reads in its transaction; a day begins as it does in `time_zone`. A rule
    that leads to more than `most_events` at once raises IsLong."""

    def __init__(self, ask: Ask, time_zone: tzinfo, most_events: int | None = None) -> None:
        self._ask = ask
        self._time_zone = time_zone
        self._most_events = most_events
        # As it was read:
        self._now: datetime | None = None
        self._versions: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._open: defaultdict[str, list[str]] = defaultdict(list)
        self._rows: dict[str, tuple[Any, ...] | None] = {}
        self._lines: dict[LineKey, PlacedLine | None] = {}
        self._others: dict[LineKey, list[int]] = {}
        self._orders: dict[str, bool] = {}
        self._whole_orders: set[str] = set()
        self._documents: dict[DocumentKey, list[Entry]] = {}
        self.locked_elsewhere: set[str] = set()
        # As it is now:
        self._new: list[NewEvent[Event]] = []
        self._collected = 0
        self._start_from_what_was_read()

    @property
    def skus(self) -> set[str]:
        """Of the products that were loaded."""
        return set(self._loaded)

    def get(self, sku: str) -> Product:
        if sku not in self._loaded:
            if sku not in self._versions:
                those_of_lines = (line.sku for line in self._lines.values() if line)
                self.take(self._ask(*self.queries(Lookups(skus=[sku, *those_of_lines]))))
            at_hand = [Batch(*self._rows[reference]) for reference in self._open[sku]]  # type: ignore[misc]  # these are there
            horizon = at_hand[-1].preference if len(at_hand) == AT_HAND else None
            self._batches.load(sku, at_hand, horizon)
            together = self._batches, self.lines, self._document_store
            self._loaded[sku] = Product(
                sku,
                self._versions[sku],
                *together,
                waiting=self._waiting[sku],
                today=self.today,
                on_event=self._record,
            )
        return self._loaded[sku]

    def get_by_batchref(self, batchref: str) -> Product:
        batch = self._batches.get(batchref)
        if batch is None:
            raise UnknownBatch(batchref)
        return self.get(batch.sku)

    def line(self, orderid: str, lineid: str) -> PlacedLine:
        line = self.lines.get((orderid, lineid))
        if line is None:
            raise UnknownLine(orderid, lineid)
        return line

    def lines_of(self, orderid: str) -> list[PlacedLine]:
        return self.lines.of_order(orderid)

    def stored_quantities(self, key: LineKey) -> Mapping[str, int]:
        """What a line had of each batch when it was read."""
        line = self._lines.get(key)
        return line.batch_quantities if line else {}

    def today(self) -> date:
        """By the clock of the database; one moment for all that is decided."""
        if self._now is None:
            ((self._now,),) = self._ask(Query(_NOW, [{"sku": ""}]))[_NOW]
        return self._now.astimezone(self._time_zone).date()

    def collect_new_events(self) -> list[NewEvent[Event]]:
        new = self._new[self._collected :]
        self._collected = len(self._new)
        return new

    def discard_new_events(self) -> None:
        """Everything is again as it was when events were last collected."""
        if len(self._new) == self._collected:
            return
        del self._new[self._collected :]
        self._start_from_what_was_read()
        for new in self._new:
            self.get(new.stream).apply(new.event)

    def _start_from_what_was_read(self) -> None:
        self._batches = Batches(self)
        self.lines = Lines(self)
        self._document_store = Documents(self)
        self._loaded: dict[str, Product] = {}

    def _record(self, product: Product, event: Event) -> None:
        self._new.append(NewEvent(product.sku, product.version_number, event))
        if self._most_events and len(self._new) - self._collected > self._most_events:
            raise IsLong(f"more than {self._most_events} events at once")

    # --- reading -------------------------------------------------------------------

    def queries(self, lookups: Lookups) -> Iterator[Query]:
        """What must be read of these before a rule can be applied, and was not read yet."""
        if skus := [sku for sku in dict.fromkeys(lookups.skus) if sku not in self._versions]:
            yield Query(_PRODUCTS, [{"sku": sku} for sku in skus])
        if references := [one for one in dict.fromkeys(lookups.batchrefs) if one not in self._rows]:
            self._rows |= dict.fromkeys(references)
            yield Query(_BATCHES, [{"reference": reference} for reference in references])
        if keys := [key for key in dict.fromkeys(lookups.lines) if key not in self._lines]:
            self._lines |= dict.fromkeys(keys)
            yield Query(_LINES, [{"orderid": orderid, "lineid": lineid} for orderid, lineid in keys])
        if wanted := [orderid for orderid in dict.fromkeys(lookups.orders) if orderid not in self._whole_orders]:
            self._whole_orders.update(wanted)
            yield Query(_LINES_OF_ORDERS, [{"orderid": orderid} for orderid in wanted])
        if numbers := [key for key in dict.fromkeys(lookups.documents) if key not in self._documents]:
            self._documents |= {key: [] for key in numbers}
            yield Query(_DOCUMENTS, [dict(zip(_DOCUMENT_KEY, key, strict=True)) for key in numbers])

    def take(self, answers: Mapping[str, Rows]) -> None:
        """What was read."""
        for version, waiting, now, *batch in answers.get(_PRODUCTS, ()):
            reference, sku, *_ = batch
            self._versions[sku] = version or 0
            self._waiting[sku] = waiting or 0
            self._now = self._now or now
            if reference is not None:
                self._rows[reference] = tuple(batch)
                self._open[sku].append(reference)
        self._rows |= {row[0]: row for row in answers.get(_BATCHES, ())}
        self._take_lines(answers.get(_LINES, ()))
        self._take_lines(answers.get(_LINES_OF_ORDERS, ()))
        for about, part, kind, number, version, name, data in answers.get(_DOCUMENTS, ()):
            entry = Entry(version, cast(Event, CODEC.decode(name, data)))
            self._documents[about, part, kind, number].append(entry)
        if _LOCK_FREE in answers:
            ours = {sku for (sku,) in answers[_LOCK_FREE]}
            self.locked_elsewhere = {sku for sku, version in self._versions.items() if version and sku not in ours}

    def _take_lines(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for orderid, lineid, cancelled, sku, version, others, returned, since, terms, waiting, *allocated in rows:
            self._orders[orderid] = bool(cancelled)
            if sku is None:
                continue
            key = orderid, lineid
            has = () if version is None else (_allocation(sku, version, orderid, lineid, *allocated),)
            waits = terms_from(terms), since or 0, waiting or 0
            self._lines[key] = PlacedLine(orderid, lineid, sku, has, returned, *waits)
            if others:
                self._others[key] = others

    def _take_others(self) -> None:
        """Of lines that have something of several batches, what was not read with the first."""
        if not self._others:
            return
        wanted = [(self._lines[key], version) for key, versions in self._others.items() for version in versions]
        places: list[Row] = [{"sku": line.sku, "version": version} for line, version in wanted if line]
        rows = self._ask(Query(_ALLOCATIONS, places))[_ALLOCATIONS]
        found = {(allocation.line.sku, allocation.version): allocation for allocation in starmap(_allocation, rows)}
        for key, versions in self._others.items():
            line = self._lines[key]
            assert line, "others are of lines that are there"
            others = (found[line.sku, version] for version in versions)
            self._lines[key] = replace(line, allocations=(*line.allocations, *others))
        self._others.clear()

    def batch(self, reference: str) -> Batch | None:
        if reference not in self._rows:
            self.take(self._ask(*self.queries(Lookups(batchrefs=[reference]))))
        row = self._rows[reference]
        return Batch(*row) if row else None

    def read_batches(self, references: Iterable[str]) -> None:
        if queries := list(self.queries(Lookups(batchrefs=list(references)))):
            self.take(self._ask(*queries))

    def later_batches(self, sku: str) -> list[Batch]:
        rows = self._ask(Query(_LATER_BATCHES, [{"sku": sku}]))[_LATER_BATCHES]
        self._rows |= {row[0]: row for row in rows}
        return [Batch(*row) for row in rows]

    def read_line(self, key: LineKey) -> PlacedLine | None:
        if key not in self._lines:
            self.take(self._ask(*self.queries(Lookups(lines=[key]))))
        if key in self._others:
            self._take_others()
        return self._lines[key]

    def read_lines_of(self, orderid: str) -> list[PlacedLine]:
        self.take(self._ask(*self.queries(Lookups(orders=[orderid]))))
        self._take_others()
        return [line for key, line in self._lines.items() if line and key[0] == orderid]

    def read_lines(self, keys: Sequence[LineKey]) -> None:
        self.take(self._ask(*self.queries(Lookups(lines=keys))))

    def is_cancelled(self, orderid: str) -> bool:
        if orderid not in self._orders:
            self.read_lines_of(orderid)
        return self._orders[orderid]

    def document(self, key: DocumentKey) -> list[Entry]:
        if key not in self._documents:
            self.take(self._ask(*self.queries(Lookups(documents=[key]))))
        return self._documents[key]

    def first_to_break(self, batch: Batch) -> Iterator[Allocation]:
        place: Row = {"priority": -1, "newest": 0}
        while True:
            behind = {"sku": batch.sku, "batchref": batch.reference} | place
            rows = self._ask(Query(_NEXT_TO_BREAK, [behind]))[_NEXT_TO_BREAK]
            if not rows:
                return
            for row in rows:
                allocation = _allocation(*row)
                place = {"priority": allocation.priority, "newest": -allocation.version}
                yield allocation

    def backorders(self, batch: Batch, day: date | None) -> Iterator[PlacedLine]:
        place: Row = {"turn": -100, "since": 0}
        about: Row = {"sku": batch.sku, "day": day, "place": _place(batch.location)}
        most = 10  # mostly few are served, but there may be thousands
        while batch.available_quantity > 0:
            room = {"room": min(batch.available_quantity, LARGEST_LINE), "most": most}
            rows = self._ask(Query(_NEXT_BACKORDERS, [about | room | place]))[_NEXT_BACKORDERS]
            most = min(2 * most, 200)
            if not rows:
                return
            self.read_lines([(orderid, lineid) for _, _, orderid, lineid in rows])
            for turn, since, *key in rows:
                place = {"turn": turn, "since": since}
                line = self.read_line((key[0], key[1]))
                assert line, "who waits is known"
                yield line

    def locks(self, lookups: Lookups, *, wait: bool) -> Query:
        """Let others wait who would write these products; always in one order, so that two who lock don't get stuck.
        Without `wait`, those that nobody has locked."""
        if not wait:
            return Query(_LOCK_FREE, [{"sku": sku} for sku in sorted(set(lookups.skus))])
        rows: list[Row] = [{"sku": sku} for sku in lookups.skus]
        rows += [{"reference": reference} for reference in lookups.batchrefs]
        rows += [{"orderid": orderid, "lineid": lineid} for orderid, lineid in lookups.lines]
        rows += [{"orderid": orderid} for orderid in lookups.orders]
        return Query(_LOCK, rows)

    # --- writing -------------------------------------------------------------------

    def statements(self) -> Iterator[Statement]:
        """What differs from what was read, sorted by key, so that two who write the same rows meet at the first."""
        changed = sorted({new.stream for new in self._new})
        products_now = ((sku, self._loaded[sku]) for sku in changed)
        versions = {
            sku: {"sku": sku, "version_number": now.version_number, "waiting": now.waiting} for sku, now in products_now
        }
        if known := [
            row for sku, row in versions.items() if self._versions[sku]
        ]:  # whoever waits for a lock has no key
            yield _UPDATE_PRODUCTS, known
        if new := [row for sku, row in versions.items() if not self._versions[sku]]:
            yield _INSERT_PRODUCTS, new
        yield from self._batch_statements(sorted(self._batches_of(changed), key=lambda batch: batch.reference))
        yield from self._line_statements()
        if numbers := sorted(self._document_store.new.items()):
            yield (
                _INSERT_DOCUMENTS,
                [
                    dict(zip(_DOCUMENT_KEY, key, strict=True)) | {"version": entry.version, "sku": entry.event.sku}
                    for key, entries in numbers
                    for entry in entries
                ],
            )

    def _batches_of(self, skus: Iterable[str]) -> Iterator[Batch]:
        for sku in skus:
            yield from self._batches.of(sku)

    def _batch_statements(self, now: Iterable[Batch]) -> Iterator[Statement]:
        created: list[Row] = []
        moved: list[Row] = []
        differing: list[Row] = []
        for batch in now:
            before = self._rows.get(batch.reference)
            if before is None:
                row = asdict(batch)
                created.append(row | {"allocated_quantity": row.pop("taken_quantity")})
                continue
            after = _row_of(batch)
            if after == before:
                continue
            key: Row = {"sku": batch.sku, "reference": batch.reference}
            if tuple(before[place] for place in _PLACES_OF_TERMS) != _terms_of(batch):
                moved.append(key | {name: getattr(batch, name) for name in _TERMS})
            by: Row = {column: after[place] - before[place] for column, place in _COUNTERS.items()}
            if any(by.values()):
                differing.append(key | by)
        if created:
            yield _INSERT_BATCH_REFERENCES, created
            yield _INSERT_BATCHES, created
        if moved:  # first, since nothing is dispatched of a batch that is expected
            yield _UPDATE_TERMS, moved
        if differing:
            yield _UPDATE_BATCHES, differing

    def _line_statements(self) -> Iterator[Statement]:
        changes = [(self._lines.get(key), now) for key, now in sorted(self.lines.changed.items())]
        touched = {orderid: {"orderid": orderid, "cancelled": True} for orderid in self.lines.cancelled}
        for before, now in changes:
            if now.has_pieces and not (before and before.has_pieces):
                touched.setdefault(now.orderid, {"orderid": now.orderid, "cancelled": False})
        if touched:
            yield _TOUCH_ORDERS, [touched[orderid] for orderid in sorted(touched)]
        yield from _order_line_statements(changes)
        yield from _allocation_statements(changes)
        yield from _backorder_statements(changes)


def _order_line_statements(changes: Sequence[_Change]) -> Iterator[Statement]:
    changed: list[Row] = []
    new: list[Row] = []
    for before, now in changes:
        if before is None:
            new.append(_line_row(now))
        elif (row := _line_row(now)) != _line_row(before):
            changed.append(row)
    yield from _those_with_rows((_UPDATE_ORDER_LINES, changed), (_INSERT_ORDER_LINES, new))


def _allocation_statements(changes: Sequence[_Change]) -> Iterator[Statement]:
    removed: list[Row] = []
    changed: list[Row] = []
    new: list[Row] = []
    for before, now in changes:
        had = {(one.line.sku, one.version): one for one in before.allocations} if before else {}
        for one in now.allocations:
            was = had.pop((one.line.sku, one.version), None) if had else None
            if was is None:
                new.append(_allocation_row(one))
            elif one != was:
                by = {"qty": one.line.qty - was.line.qty, "dispatched": one.dispatched - was.dispatched}
                changed.append({"sku": one.line.sku, "version": one.version} | by)
        removed += [{"sku": sku, "version": version} for sku, version in had]
    yield from _those_with_rows(
        (_DELETE_ALLOCATIONS, removed), (_UPDATE_ALLOCATIONS, changed), (_INSERT_ALLOCATIONS, new)
    )


def _backorder_statements(changes: Sequence[_Change]) -> Iterator[Statement]:
    gone: list[Row] = []
    changed: list[Row] = []
    new: list[Row] = []
    for before, now in changes:
        was = before and before.waiting and backorder_row(before)
        row = now.waiting and backorder_row(now)
        if was and (not row or (was["sku"], was["since"]) != (row["sku"], row["since"])):
            gone.append({"sku": was["sku"], "since": was["since"]})
            was = None
        if row and not was:
            new.append(row)
        elif row and row != was:
            changed.append(row)
    yield from _those_with_rows((_DELETE_BACKORDERS, gone), (_UPDATE_BACKORDERS, changed), (_INSERT_BACKORDERS, new))


def backorder_row(line: PlacedLine) -> Row:
    return {
        "sku": line.sku,
        "since": line.since,
        "orderid": line.orderid,
        "lineid": line.lineid,
        "qty": line.waiting,
        "needs": 1 if line.terms.may_split else line.waiting,
        "turn": -line.terms.priority,
        "needed_by": line.terms.needed_by,
        "places": reduce(or_bits, map(_place, line.terms.locations)) if line.terms.locations else ANYWHERE,
    }


ANYWHERE = 2**62 - 1


def _place(location: str) -> int:
    """A bit, by which a line that wants none of it is passed over in the index. Two locations may share one: then the
    rule passes it over."""
    return 1 << crc32(location.encode()) % 62


def _those_with_rows(*statements: tuple[Write, list[Row]]) -> Iterator[Statement]:
    return ((write, rows) for write, rows in statements if rows)


def _allocation(  # noqa: PLR0917 - a row of the table, in its order
    sku: str, version: int, orderid: str, lineid: str, qty: int, batchref: str, dispatched: int, priority: int
) -> Allocation:
    line = OrderLine(orderid=orderid, sku=sku, qty=qty, lineid=lineid)
    return Allocation(line, batchref, version, dispatched, priority)


def _allocation_row(allocation: Allocation) -> Row:
    line = allocation.line
    return {
        "sku": line.sku,
        "version": allocation.version,
        "orderid": line.orderid,
        "lineid": line.lineid,
        "qty": line.qty,
        "batchref": allocation.batchref,
        "dispatched": allocation.dispatched,
        "priority": allocation.priority,
    }


def _line_row(line: PlacedLine) -> Row:
    versions = [allocation.version for allocation in line.allocations]
    return {
        "orderid": line.orderid,
        "lineid": line.lineid,
        "sku": line.sku,
        "version": versions[0] if versions else None,
        "others": versions[1:] or None,
        "returned": line.returned,
        "since": line.since or None,
        "terms": None if line.terms is SINGLE_LINE else TERMS.dump_python(line.terms, mode="json"),
    }


def terms_from(stored: dict[str, Any] | None) -> LineTerms:
    return SINGLE_LINE if stored is None else TERMS.validate_python(stored)


_to_lock = rows_of(products.c.sku, batch_references.c.reference, order_lines.c.orderid, order_lines.c.lineid)
_of_references = batch_references.c.reference == _to_lock.c.reference
_of_lines = and_(
    order_lines.c.orderid == _to_lock.c.orderid,
    or_(_to_lock.c.lineid.is_(None), order_lines.c.lineid == _to_lock.c.lineid),
)
_LOCK = compiled(
    select(products.c.sku)
    .where(
        products.c.sku.in_(
            union(
                select(_to_lock.c.sku),
                select(batch_references.c.sku).join_from(_to_lock, batch_references, _of_references),
                select(order_lines.c.sku).join_from(_to_lock, order_lines, _of_lines),
            )
        )
    )
    .order_by(products.c.sku)
    .with_for_update()
)

_skus = rows_of(products.c.sku)
_NOW = compiled(select(func.statement_timestamp()).select_from(_skus))
_LOCK_FREE = compiled(
    select(products.c.sku)
    .select_from(_skus.join(products, products.c.sku == _skus.c.sku))
    .with_for_update(of=products, skip_locked=True, key_share=True)
)
_open_batches = (
    select(*_BATCH)
    .where(batches.c.sku == _skus.c.sku, batches.c.is_open)
    .order_by(batches.c.eta.nulls_first(), batches.c.expires, batches.c.added)  # Batch.preference
)
_at_hand = _open_batches.limit(literal_column(str(AT_HAND))).lateral("at_hand")
_open_batch = [_skus.c.sku if column is _at_hand.c.sku else column for column in _at_hand.c]  # a product may have none
_now_if_it_matters = case(
    (or_(_at_hand.c.expires.is_not(None), _at_hand.c.eta.is_not(None)), func.statement_timestamp())
)
_PRODUCTS = compiled(
    select(products.c.version_number, products.c.waiting, _now_if_it_matters, *_open_batch).select_from(
        _skus.outerjoin(products, products.c.sku == _skus.c.sku).outerjoin(_at_hand, true())
    )
)
_later = _open_batches.offset(literal_column(str(AT_HAND))).lateral("later")
_LATER_BATCHES = compiled(select(*_later.c).select_from(_skus.join(_later, true())))

_references = rows_of(batch_references.c.reference)
_BATCHES = compiled(
    select(*_BATCH)
    .select_from(_references)
    .join(batch_references, batch_references.c.reference == _references.c.reference)
    .join(batches, and_(batches.c.sku == batch_references.c.sku, batches.c.reference == batch_references.c.reference))
)


def _lines_of(given: FromClause, lineid: ColumnElement[str], is_meant: ColumnElement[bool]) -> Select[Any]:
    """Lines with the first that they have, and what is known of their order, line or not."""
    first = and_(allocations.c.sku == order_lines.c.sku, allocations.c.version == order_lines.c.version)
    waits = and_(backorders.c.sku == order_lines.c.sku, backorders.c.since == order_lines.c.since)
    of_line = [order_lines.c[name] for name in ("sku", "version", "others", "returned", "since", "terms")]
    of_batch = [allocations.c[name] for name in ("qty", "batchref", "dispatched", "priority")]
    return select(
        given.c.orderid, lineid, orders.c.cancelled, *of_line, backorders.c.qty.label("waiting"), *of_batch
    ).select_from(
        given.outerjoin(orders, orders.c.orderid == given.c.orderid)
        .outerjoin(order_lines, is_meant)
        .outerjoin(allocations, first)
        .outerjoin(backorders, waits)
    )


_lines = rows_of(order_lines.c.orderid, order_lines.c.lineid)
_is_line = and_(order_lines.c.orderid == _lines.c.orderid, order_lines.c.lineid == _lines.c.lineid)
_LINES = compiled(_lines_of(_lines, _lines.c.lineid, _is_line))
_orders = rows_of(orders.c.orderid)
_LINES_OF_ORDERS = compiled(_lines_of(_orders, order_lines.c.lineid, order_lines.c.orderid == _orders.c.orderid))

_places = rows_of(allocations.c.sku, allocations.c.version)
_ALLOCATIONS = compiled(
    select(allocations)
    .select_from(_places)
    .join(allocations, and_(allocations.c.sku == _places.c.sku, allocations.c.version == _places.c.version))
)

_loses = (-allocations.c.version).label("newest")
_beyond = rows_of(allocations.c.sku, allocations.c.batchref, allocations.c.priority, column("newest", BigInteger))
_next = (
    select(allocations)
    .where(
        allocations.c.sku == _beyond.c.sku,
        allocations.c.batchref == _beyond.c.batchref,
        tuple_(allocations.c.priority, _loses) > tuple_(_beyond.c.priority, _beyond.c.newest),
        allocations.c.qty > literal_column("0"),
    )
    .order_by(allocations.c.priority, _loses)
    .limit(literal_column("500"))
    .lateral("next")
)
_NEXT_TO_BREAK = compiled(select(*_next.c).select_from(_beyond.join(_next, true())))

# Steps through the different sizes that fit, and takes of each the first in turn that may be served from the batch: the
# number of lines that wait does not matter, but that of the sizes. Who is passed over is seen in the index only.
_NEXT_BACKORDERS = """
    WITH RECURSIVE asked AS (
        SELECT * FROM json_to_recordset($1::json) AS given (
            sku text, room integer, day date, place bigint, turn integer, since bigint, most integer
        )
    ), sizes (needs) AS (
        SELECT (
            SELECT backorders.needs FROM backorders WHERE backorders.sku = asked.sku ORDER BY backorders.needs LIMIT 1
        ) FROM asked
        UNION ALL
        SELECT (
            SELECT backorders.needs FROM backorders
            WHERE backorders.sku = asked.sku AND backorders.needs > sizes.needs AND backorders.needs <= asked.room
            ORDER BY backorders.needs LIMIT 1
        ) FROM sizes, asked WHERE sizes.needs IS NOT NULL
    )
    SELECT first.turn, first.since, waiting.orderid, waiting.lineid
    FROM asked CROSS JOIN LATERAL (
        SELECT of_size.turn, of_size.since
        FROM sizes CROSS JOIN LATERAL (
            SELECT backorders.turn, backorders.since FROM backorders
            WHERE backorders.sku = asked.sku AND backorders.needs = sizes.needs AND sizes.needs <= asked.room
              AND (backorders.turn, backorders.since) > (asked.turn, asked.since)
              AND (asked.day IS NULL OR backorders.needed_by IS NULL OR backorders.needed_by >= asked.day)
              AND backorders.places & asked.place <> 0
            ORDER BY backorders.turn, backorders.since LIMIT asked.most
        ) AS of_size
        ORDER BY of_size.turn, of_size.since LIMIT asked.most
    ) AS first
    JOIN backorders AS waiting ON waiting.sku = asked.sku AND waiting.since = first.since
    ORDER BY first.turn, first.since
"""

_DOCUMENT_KEY = ("about", "part", "kind", "number")
_numbers = rows_of(*(documents.c[name] for name in _DOCUMENT_KEY))
_DOCUMENTS = compiled(
    select(*_numbers.c, documents.c.version, event_log.c.type, event_log.c.data)
    .select_from(_numbers)
    .join(documents, and_(*(documents.c[name] == _numbers.c[name] for name in _DOCUMENT_KEY)))
    .join(event_log, and_(event_log.c.stream == documents.c.sku, event_log.c.version == documents.c.version))
    .order_by(documents.c.version)
)

_versions = rows_of(products.c.sku, products.c.version_number, products.c.waiting)
_INSERT_PRODUCTS = insert_rows(products, "sku", "version_number", "waiting")
_UPDATE_PRODUCTS = write_rows(
    update(products)
    .values(version_number=_versions.c.version_number, waiting=_versions.c.waiting)
    .where(products.c.sku == _versions.c.sku)
)

_INSERT_BATCH_REFERENCES = insert_rows(batch_references, "reference", "sku")
_INSERT_BATCHES = insert_rows(batches, "sku", "reference", "initial_quantity", "location", *_TERMS, *_COUNTERS)
_differences = rows_of(batches.c.sku, batches.c.reference, *(batches.c[name] for name in _COUNTERS))
_UPDATE_BATCHES = write_rows(
    update(batches)
    .values({name: batches.c[name] + _differences.c[name] for name in _COUNTERS})
    .where(and_(batches.c.sku == _differences.c.sku, batches.c.reference == _differences.c.reference))
)
_terms = rows_of(batches.c.sku, batches.c.reference, *(batches.c[name] for name in _TERMS))
_UPDATE_TERMS = write_rows(
    update(batches)
    .values({name: _terms.c[name] for name in _TERMS})
    .where(and_(batches.c.sku == _terms.c.sku, batches.c.reference == _terms.c.reference))
)

_TOUCH_ORDERS = insert_or_update_rows(
    orders, ["orderid"], ["cancelled"], lambda given: {"cancelled": or_(orders.c.cancelled, given.cancelled)}
)

_LINE_COLUMNS = ("sku", "version", "others", "returned", "since", "terms")
_now_lines = rows_of(order_lines.c.orderid, order_lines.c.lineid, *(order_lines.c[name] for name in _LINE_COLUMNS))
_is_changed = and_(order_lines.c.orderid == _now_lines.c.orderid, order_lines.c.lineid == _now_lines.c.lineid)
_UPDATE_ORDER_LINES = write_rows(
    update(order_lines).values({name: _now_lines.c[name] for name in _LINE_COLUMNS}).where(_is_changed)
)
_INSERT_ORDER_LINES = insert_rows(order_lines, "orderid", "lineid", *_LINE_COLUMNS)

_left = rows_of(allocations.c.sku, allocations.c.version)
_DELETE_ALLOCATIONS = write_rows(
    delete(allocations).where(and_(allocations.c.sku == _left.c.sku, allocations.c.version == _left.c.version))
)
_by = rows_of(allocations.c.sku, allocations.c.version, allocations.c.qty, allocations.c.dispatched)
_UPDATE_ALLOCATIONS = write_rows(
    update(allocations)
    .values(qty=allocations.c.qty + _by.c.qty, dispatched=allocations.c.dispatched + _by.c.dispatched)
    .where(and_(allocations.c.sku == _by.c.sku, allocations.c.version == _by.c.version))
)
_INSERT_ALLOCATIONS = insert_rows(
    allocations, "sku", "version", "orderid", "lineid", "qty", "batchref", "dispatched", "priority"
)

_out = rows_of(backorders.c.sku, backorders.c.since)
_DELETE_BACKORDERS = write_rows(
    delete(backorders).where(and_(backorders.c.sku == _out.c.sku, backorders.c.since == _out.c.since))
)
_waits = rows_of(backorders.c.sku, backorders.c.since, backorders.c.qty, backorders.c.needs)
_UPDATE_BACKORDERS = write_rows(
    update(backorders)
    .values(qty=_waits.c.qty, needs=_waits.c.needs)
    .where(and_(backorders.c.sku == _waits.c.sku, backorders.c.since == _waits.c.since))
)
_INSERT_BACKORDERS = insert_rows(
    backorders, "sku", "since", "orderid", "lineid", "qty", "needs", "turn", "needed_by", "places"
)

_INSERT_DOCUMENTS = insert_rows(documents, *_DOCUMENT_KEY, "version", "sku")
