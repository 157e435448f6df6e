"""How products, batches, lines and documents are read: by key, however much is stored."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any
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
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union,
)

from allocation.database.tables import (
    allocations,
    backorders,
    batch_references,
    batches,
    documents,
    holds,
    order_lines,
    orders,
    products,
)
from allocation.domain.batches import Batch
from allocation.domain.holds import Hold
from allocation.domain.lines import SINGLE_LINE, Allocation, LineTerms
from messaging.sql.moments import moment_from
from messaging.sql.statements import compiled, rows_of
from messaging.sql.tables import event_log

LINE_TERMS = TypeAdapter(LineTerms)

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
ALLOCATION_COLUMNS = ["qty" if field.name == "promised" else field.name for field in fields(Allocation)]
ALLOCATION = [allocations.c[name] for name in ALLOCATION_COLUMNS]
"""Selected by position, as batches are."""


def hold_of(sku: str, hold_id: str, qty: int, batchref: str, until: datetime, version: int) -> Hold:  # noqa: PLR0917 - a row of the table, in its order
    return Hold(hold_id, sku, qty, batchref, until.astimezone(UTC), version)


def holds_from(sku: str, found: list[Any]) -> list[Hold]:
    """Of one product, as JSON; the first to end is the first."""
    holds_of_sku = [
        Hold(hold_id, sku, qty, batchref, moment_from(until), version)
        for hold_id, qty, batchref, until, version in found
    ]
    return sorted(holds_of_sku, key=attrgetter("until", "version"))


def terms_from(stored: dict[str, Any] | None) -> LineTerms:
    return SINGLE_LINE if stored is None else LINE_TERMS.validate_python(stored)


def location_bit(location: str) -> int:
    """A bit, by which a line that wants none of it is passed over in the index. Two locations may share one: then the
    rule passes it over."""
    return 1 << crc32(location.encode()) % 62


_to_lock = rows_of(products.c.sku, batch_references.c.reference, order_lines.c.orderid, order_lines.c.lineid)
_of_references = batch_references.c.reference == _to_lock.c.reference
_of_lines = and_(
    order_lines.c.orderid == _to_lock.c.orderid,
    or_(_to_lock.c.lineid.is_(None), order_lines.c.lineid == _to_lock.c.lineid),
)
LOCK = compiled(
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
NOW = compiled(select(func.statement_timestamp()).select_from(_skus))
LOCK_FREE = compiled(
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
_due = (  # nothing is looked for where there are no holds, and to sort nothing costs
    select(
        func.json_agg(
            func.json_build_array(holds.c.hold_id, holds.c.qty, holds.c.batchref, holds.c.until, holds.c.version)
        ).label("holds")
    )
    .where(
        products.c.holds > literal_column("0"),
        holds.c.sku == products.c.sku,
        holds.c.until <= func.statement_timestamp(),
    )
    .lateral("due")
)
PRODUCTS = compiled(
    select(
        products.c.version_number, products.c.waiting, products.c.holds, _due.c.holds, _now_if_it_matters, *_open_batch
    ).select_from(
        _skus.outerjoin(products, products.c.sku == _skus.c.sku).outerjoin(_due, true()).outerjoin(_at_hand, true())
    )
)
"""With the holds that have run out."""
_later = _open_batches.offset(literal_column(str(AT_HAND))).lateral("later")
LATER_BATCHES = compiled(select(*_later.c).select_from(_skus.join(_later, true())))

_references = rows_of(batch_references.c.reference)
BATCHES = compiled(
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
    of_batch = ALLOCATION[len(("sku", "version", "orderid", "lineid")) :]
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
LINES = compiled(_lines_of(_lines, _lines.c.lineid, _is_line))
_orders = rows_of(orders.c.orderid)
LINES_OF_ORDERS = compiled(_lines_of(_orders, order_lines.c.lineid, order_lines.c.orderid == _orders.c.orderid))

_ids = rows_of(holds.c.sku, holds.c.hold_id)
HOLDS = compiled(
    select(*_ids.c, func.statement_timestamp(), *(holds.c[name] for name in ("qty", "batchref", "until", "version")))
    .select_from(_ids)
    .outerjoin(holds, and_(holds.c.sku == _ids.c.sku, holds.c.hold_id == _ids.c.hold_id))
)

_places = rows_of(allocations.c.sku, allocations.c.version)
ALLOCATIONS = compiled(
    select(*ALLOCATION)
    .select_from(_places)
    .join(allocations, and_(allocations.c.sku == _places.c.sku, allocations.c.version == _places.c.version))
)

_loses = (-allocations.c.version).label("newest")
_beyond = rows_of(allocations.c.sku, allocations.c.batchref, allocations.c.priority, column("newest", BigInteger))
_next = (
    select(*ALLOCATION)
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
NEXT_TO_BREAK = compiled(select(*_next.c).select_from(_beyond.join(_next, true())))

_older_than = rows_of(holds.c.sku, holds.c.batchref, holds.c.version)
_next_holds = (
    select(holds)
    .where(
        holds.c.sku == _older_than.c.sku,
        holds.c.batchref == _older_than.c.batchref,
        holds.c.version < _older_than.c.version,
    )
    .order_by(holds.c.version.desc())
    .limit(literal_column("100"))
    .lateral("next")
)
NEXT_HOLDS_TO_BREAK = compiled(select(*_next_holds.c).select_from(_older_than.join(_next_holds, true())))

_onward = rows_of(
    batches.c.sku,
    batches.c.eta,
    batches.c.expires,
    batches.c.added,
    column("room", BigInteger),
    column("keeps", BigInteger),
    allocations.c.version,
)


_NEVER: ColumnElement[Any] = literal_column("CAST('-infinity' AS date)")
_EVER: ColumnElement[Any] = literal_column("CAST('infinity' AS date)")


def _preference(of: Any) -> ColumnElement[Any]:
    """Batch.preference"""
    return tuple_(func.coalesce(of.eta, _NEVER), func.coalesce(of.expires, _EVER), of.added)


_keeps = tuple_(-allocations.c.priority, allocations.c.version)
_promised_later = (
    select(*ALLOCATION)
    .join(batches, and_(batches.c.sku == allocations.c.sku, batches.c.reference == allocations.c.batchref))
    .where(
        allocations.c.sku == _onward.c.sku,
        allocations.c.qty > literal_column("0"),
        allocations.c.qty <= _onward.c.room,
        _preference(batches.c) > _preference(_onward.c),
        _keeps > tuple_(_onward.c.keeps, _onward.c.version),
    )
    .order_by(-allocations.c.priority, allocations.c.version)
    .limit(literal_column("500"))
    .lateral("next")
)
PROMISED_LATER = compiled(select(*_promised_later.c).select_from(_onward.join(_promised_later, true())))

# Steps through the different sizes that fit, and takes of each the first in turn that may be served from the batch: the
# number of lines that wait does not matter, but that of the sizes. Who is passed over is seen in the index only.
NEXT_BACKORDERS = """
    WITH RECURSIVE wanted AS (
        SELECT * FROM json_to_recordset($1::json) AS given (
            sku text, room bigint, day date, place bigint, turn integer, since bigint, served json, most integer
        )
    ), sizes (needs) AS (
        SELECT (
            SELECT backorders.needs FROM backorders WHERE backorders.sku = wanted.sku ORDER BY backorders.needs LIMIT 1
        ) FROM wanted
        UNION ALL
        SELECT (
            SELECT backorders.needs FROM backorders
            WHERE backorders.sku = wanted.sku AND backorders.needs > sizes.needs AND backorders.needs <= wanted.room
            ORDER BY backorders.needs LIMIT 1
        ) FROM sizes, wanted WHERE sizes.needs IS NOT NULL
    )
    SELECT first.turn, first.since, first.needs, waiting.orderid, waiting.lineid
    FROM wanted CROSS JOIN LATERAL (
        SELECT of_size.turn, of_size.since, sizes.needs
        FROM sizes CROSS JOIN LATERAL (
            SELECT coalesce(CAST(wanted.served -> CAST(sizes.needs AS text) ->> 0 AS integer), wanted.turn) AS turn,
                   coalesce(CAST(wanted.served -> CAST(sizes.needs AS text) ->> 1 AS bigint), wanted.since) AS since
        ) AS behind CROSS JOIN LATERAL (
            SELECT backorders.turn, backorders.since FROM backorders
            WHERE backorders.sku = wanted.sku AND backorders.needs = sizes.needs AND sizes.needs <= wanted.room
              AND (backorders.turn, backorders.since) > (behind.turn, behind.since)
              AND (wanted.day IS NULL OR backorders.needed_by IS NULL OR backorders.needed_by >= wanted.day)
              AND backorders.places & wanted.place <> 0
            ORDER BY backorders.turn, backorders.since LIMIT wanted.most
        ) AS of_size
        ORDER BY of_size.turn, of_size.since LIMIT wanted.most
    ) AS first
    CROSS JOIN LATERAL (
        SELECT orderid, lineid FROM backorders WHERE sku = wanted.sku AND since = first.since LIMIT 1
    ) AS waiting
    ORDER BY first.turn, first.since
"""
LARGER_NEEDS = """
    SELECT (
        SELECT backorders.needs FROM backorders WHERE backorders.sku = wanted.sku AND backorders.needs > wanted.room
        ORDER BY backorders.needs LIMIT 1
    ) FROM json_to_recordset($1::json) AS wanted (sku text, room bigint)
"""

DOCUMENT_KEY = ("about", "part", "kind", "number")
_numbers = rows_of(*(documents.c[name] for name in DOCUMENT_KEY))
DOCUMENTS = compiled(
    select(*_numbers.c, documents.c.version, event_log.c.type, event_log.c.data)
    .select_from(_numbers)
    .join(documents, and_(*(documents.c[name] == _numbers.c[name] for name in DOCUMENT_KEY)))
    .join(event_log, and_(event_log.c.stream == documents.c.sku, event_log.c.version == documents.c.version))
    .order_by(documents.c.version)
)
