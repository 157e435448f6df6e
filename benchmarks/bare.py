"""What an allocation costs at least: the same rows by the same statements, without any architecture.

Plain psycopg, prepared statements with one value a parameter, one after another at REPEATABLE READ, and one loop around
them for conflicts. It is the yardstick of the benchmarks, so it does what is needed and nothing else.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import IsolationLevel, errors

CONFLICTS = (errors.SerializationFailure, errors.UniqueViolation, errors.DeadlockDetected)
TRIES = 1000

PRODUCT = """
    SELECT products.version_number, batches.reference, batches.eta, batches.purchased_quantity,
           batches.allocated_quantity, batches.added
    FROM products LEFT JOIN batches ON batches.sku = products.sku AND batches.is_open
    WHERE products.sku = %s"""
LINE = """
    SELECT allocations.batchref
    FROM order_lines JOIN allocations ON allocations.sku = order_lines.sku AND allocations.version = order_lines.version
    WHERE order_lines.orderid = %s AND order_lines.lineid = %s"""
UPDATE_PRODUCT = "UPDATE products SET version_number = %s WHERE sku = %s"
UPDATE_BATCH = "UPDATE batches SET allocated_quantity = allocated_quantity + %s WHERE sku = %s AND reference = %s"
INSERT_LINE = "INSERT INTO order_lines (orderid, lineid, sku, version) VALUES (%s, %s, %s, %s)"
INSERT_ALLOCATION = (
    "INSERT INTO allocations (sku, version, orderid, lineid, qty, batchref) VALUES (%s, %s, %s, %s, %s, %s)"
)
INSERT_VIEW = "INSERT INTO allocations_view (orderid, lineid, sku, qty, batchref) VALUES (%s, %s, %s, %s, %s)"
INSERT_EVENT = """
    INSERT INTO event_log
        (stream, version, id, type, data, correlation_id, causation_id, source, time, effects)
    VALUES (%s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s::jsonb)"""
INSERT_LETTER = "INSERT INTO outbox (effect, stream, version) VALUES (%s, %s, %s)"

ALLOCATED, OUT_OF_STOCK = "allocated.v1", "out_of_stock.v1"
EFFECTS = {ALLOCATED: ["publish_event"], OUT_OF_STOCK: ["publish_event", "send_out_of_stock_notification"]}

Cursor = psycopg.Cursor[tuple[Any, ...]]


class UnknownSku(Exception):
    pass


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    connection = psycopg.connect(url, prepare_threshold=0)
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    return connection


def allocate(connection: psycopg.Connection[tuple[Any, ...]], orderid: str, sku: str, qty: int) -> str | None:
    """The batch, or None when out of stock. Raises UnknownSku."""
    for _ in range(TRIES):
        try:
            with connection.cursor() as cursor:
                batchref = _allocate(cursor, orderid, sku, qty)
            connection.commit()
        except CONFLICTS:
            connection.rollback()
        except BaseException:
            connection.rollback()
            raise
        else:
            return batchref
    raise RuntimeError(f"{TRIES} conflicts, one after another")


def _allocate(cursor: Cursor, orderid: str, sku: str, qty: int) -> str | None:
    lineid = sku
    product = cursor.execute(PRODUCT, (sku,)).fetchall()
    if not product:
        raise UnknownSku(sku)
    if line := cursor.execute(LINE, (orderid, lineid)).fetchone():
        return str(line[0])
    version = product[0][0] + 1
    batchref = _best_batch(product, qty)
    event = {"orderid": orderid, "sku": sku, "qty": qty, "lineid": lineid}
    cursor.execute(UPDATE_PRODUCT, (version, sku))
    if batchref is None:
        _record(cursor, sku, version, event, OUT_OF_STOCK)
        return None
    cursor.execute(UPDATE_BATCH, (qty, sku, batchref))
    cursor.execute(INSERT_LINE, (orderid, lineid, sku, version))
    cursor.execute(INSERT_ALLOCATION, (sku, version, orderid, lineid, qty, batchref))
    cursor.execute(INSERT_VIEW, (orderid, lineid, sku, qty, batchref))
    _record(cursor, sku, version, event | {"batchref": batchref}, ALLOCATED)
    return batchref


def _best_batch(rows: list[tuple[Any, ...]], qty: int) -> str | None:
    """The warehouse first, then the earliest delivery, then as they were added."""
    fitting = [
        (eta is not None, eta or date.min, added, reference)
        for _, reference, eta, purchased, allocated, added in rows
        if reference is not None and purchased - allocated >= qty
    ]
    return min(fitting)[-1] if fitting else None


def _record(cursor: Cursor, sku: str, version: int, event: dict[str, object], kind: str) -> None:
    effects = EFFECTS[kind]
    ids = str(uuid4()), str(uuid4()), str(uuid4())
    about = (*ids[1:], "http", datetime.now(UTC), json.dumps(effects))
    cursor.execute(INSERT_EVENT, (sku, version, ids[0], kind, json.dumps(event), *about))
    for effect in effects:
        cursor.execute(INSERT_LETTER, (effect, sku, version))
