"""One damaged row of any table holds back what is its own, and nothing else, whoever reads or writes the others."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import date
from threading import Event
from typing import Any, get_args

import pytest
import redis
from flask.testing import FlaskClient
from hypothesis import settings as hypothesis_settings
from sqlalchemy import ARRAY, Boolean, Column, Date, DateTime, Integer, LargeBinary, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from tests.integration.conftest import Sql

from allocation.bootstrap import Service
from allocation.database import tables
from allocation.domain import commands, events
from allocation.domain.commands import (
    CancelOrder,
    CountBatch,
    Dispatch,
    OrderedLine,
    ParcelLine,
    PlaceOrder,
    Quarantine,
    ReceiveBatch,
    ReleaseLine,
    ReleaseQuarantine,
    Rest,
    ReturnLine,
    VoidHold,
    WriteOff,
)
from allocation.entrypoints.clock import Clock
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from messaging.sql import tables as messaging_tables

Differences = Callable[[], list[str]]

PUBLISH = "publish_event"
DAYS = ["infinity", "-infinity", "0044-03-15 BC", "12026-01-01"]
ENDS = ["infinity", "0044-03-15 BC"]
DEEP = "CAST('{\"a\":' || repeat('[', 5000) || repeat(']', 5000) || '}' AS jsonb)"
MOST, MOST_OF_ALL = 2**31 - 1, 2**63 - 1
DAMAGES = [
    *(f"batches SET eta = '{day}' WHERE reference = 'LAMP-late'" for day in DAYS),
    *(f"batches SET expires = '{day}' WHERE reference = 'LAMP-late'" for day in DAYS),
    *(f"batches SET initial_eta = '{day}' WHERE reference = 'LAMP-late'" for day in ENDS),
    *(f"holds SET until = '{day}' WHERE sku = 'LAMP'" for day in ENDS),
    *(f"allocations SET needed_by = '{day}' WHERE sku = 'LAMP'" for day in ENDS),
    *(f"backorders SET needed_by = '{day}' WHERE sku = 'LAMP'" for day in (*ENDS, "-infinity")),
    *(f"allocations SET {count} = {MOST} WHERE sku = 'LAMP'" for count in ("qty", "dispatched")),
    "order_lines SET others = '{{1},{2}}' WHERE orderid = 'LAMP-3'",
    "event_log SET data = jsonb_set(data, '{since}', '7', false) WHERE stream = 'LAMP'",
    *(f"order_lines SET terms = {terms} WHERE orderid = 'LAMP-3'" for terms in ("'[]'", "'7'", DEEP)),
]
UNSEEN = [
    *(f"orders SET placed = '{day}' WHERE orderid LIKE 'LAMP%'" for day in ENDS),
    *(f"deliveries SET token = {most} WHERE stream = 'LAMP'" for most in (MOST_OF_ALL, MOST_OF_ALL - 1)),
    "inbox SET received_at = 'infinity' WHERE message_id LIKE '%LAMP%'",
    *(f"outbox SET first_failed_at = '{day}', last_failed_at = '{day}' WHERE stream = 'LAMP'" for day in ENDS),
    *(f"event_log SET transaction_id = {least} WHERE stream = 'LAMP'" for least in (-1, -MOST_OF_ALL - 1)),
    f"outbox SET attempts = {MOST}, faults = {MOST} WHERE stream = 'LAMP'",
]
"""No history says what they should be."""

PAGES = [
    "/v1/products?limit=9",
    "/v1/products/LAMP",
    "/v1/products/LAMP/availability?qty=1",
    "/v1/products/LAMP/explain?qty=1",
    "/v1/availability?sku=LAMP&sku=SOFA&qty=1",
    "/v1/batches?sku=LAMP",
    "/v1/batches/LAMP-late",
    "/v1/orders",
    "/v1/orders/LAMP-1",
    "/v1/backorders",
    "/v1/at-risk",
    "/v1/holds",
    "/v1/events",
    "/console",
    "/console/product?sku=LAMP",
    "/console/order?id=LAMP-1",
    "/console/backorders",
    "/console/at-risk",
    "/console/dead-letters",
]


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


@pytest.fixture
def two(service: Service) -> Service:
    """SKUs, with all that can be stored about one. None of it was published yet."""
    for sku in ("LAMP", "SOFA"):
        for command in (
            commands.CreateBatch(f"{sku}-now", sku, 3, expires=date(2199, 1, 1)),
            commands.CreateBatch(f"{sku}-late", sku, 9, date(2099, 1, 1)),
            PlaceOrder(f"{sku}-1", (OrderedLine(sku, 2, "1"),), "backorder", needed_by=date(2098, 1, 1)),
            commands.PlaceHold("cart", sku, 1, 600),
            PlaceOrder(f"{sku}-3", (OrderedLine(sku, 4, "1"),), "backorder", needed_by=date(2099, 1, 1)),
            PlaceOrder(
                f"{sku}-2",
                (OrderedLine(sku, 20, "1"), OrderedLine(sku, 30, "2")),
                "backorder",
                needed_by=date(2098, 1, 1),
            ),
        ):
            service.bus.handle(command, message_id=f"{sku} {command}")
    return service


def published(server: redis.Redis) -> list[str]:
    entries: Any = server.xrange("allocation.events")
    return [json.loads(fields[b"event"])["subject"] for _, fields in entries]


def deliver_all(service: Service) -> None:
    for _ in range(20):
        if not service.relay.deliver(PUBLISH):
            return
    raise AssertionError("there is no end to it")


@pytest.mark.parametrize("damage", [*DAMAGES, *UNSEEN])
def test_a_damaged_row_holds_back_what_is_its_own_and_is_named(  # noqa: PLR0917 - all that it may be in the way of
    two: Service, client: FlaskClient, redis_server: redis.Redis, sql: Sql, differences: Differences, damage: str
) -> None:
    sql(f"UPDATE {damage}")
    sql("UPDATE allocations_view SET qty = 7 WHERE sku = 'SOFA'")
    found = differences()
    sql("UPDATE holds SET until = now() WHERE sku = 'SOFA'")

    statuses = {page: client.get(page, follow_redirects=True).status_code for page in PAGES}
    assert {page for page, status in statuses.items() if status != 200} == set()
    assert client.post("/v1/allocations", json={"orderid": "new", "sku": "SOFA", "qty": 1}).status_code == 201
    with suppress(Exception):  # of the damaged row, and said when the others had their turn
        Clock(two).tick(Event())
    assert sql("SELECT count(*) FROM holds WHERE sku = 'SOFA'") == [(0,)]
    deliver_all(two)
    assert published(redis_server).count("SOFA") == 9
    assert any("SOFA" in one and "allocations_view" in one for one in found)
    assert damage in UNSEEN or any("LAMP" in one for one in found), "it is not named"


def test_a_delivery_that_was_counted_too_often_is_named_and_no_other_is_repeated(
    two: Service, redis_server: redis.Redis, sql: Sql, differences: Differences
) -> None:
    deliver_all(two)
    sql(f"UPDATE deliveries SET delivered_count = {MOST_OF_ALL} WHERE stream = 'LAMP'")
    for sku in ("LAMP", "SOFA"):
        two.bus.handle(commands.Allocate("new", sku, 1))

    deliver_all(two)

    assert published(redis_server).count("SOFA") == published(redis_server).count("LAMP") == 8
    assert any("LAMP" in one for one in differences())


@pytest.mark.parametrize("moment", ["'infinity'", "now() + interval '3 years'", "'-infinity'"])
def test_nothing_waits_for_a_moment_that_nobody_meant(
    two: Service, redis_server: redis.Redis, sql: Sql, moment: str
) -> None:
    sql(f"UPDATE outbox SET retry_at = {moment}, last_failed_at = now() WHERE stream = 'LAMP'")

    deliver_all(two)

    assert published(redis_server).count("LAMP") == published(redis_server).count("SOFA") > 0


def values_of(column: Column[Any]) -> list[str]:
    """Ends of what the type can hold, and what no process of ours has ever written there."""
    kind = column.type
    if isinstance(kind, Integer):
        found = [str(number) for number in (0, -1, 7, MOST, -MOST - 1, MOST_OF_ALL, -MOST_OF_ALL - 1)]
    elif isinstance(kind, Date | DateTime):
        found = [f"'{day}'" for day in DAYS]
    elif isinstance(kind, JSONB):
        found = ["'{}'", "'[]'", "'null'", "'7'", "'\"x\"'", DEEP, "'{\"qty\": 1e400}'"]
    elif isinstance(kind, ARRAY):
        found = ["'{}'", "'{NULL}'", "'{{1},{2}}'", f"'{{{MOST_OF_ALL}}}'"]
    elif isinstance(kind, Boolean):
        found = ["true", "false"]
    elif isinstance(kind, LargeBinary):
        found = ["''"]
    else:
        found = ["''", "'null'", "U&'\\202E'", "repeat('x', 2000)"]
    return [*found, "NULL"] if column.nullable else found


NAMES_A_SKU = ("stream", "sku", "message_id", "orderid")
EVERY_DAMAGE = [
    (table, column, value)
    for table in (*tables.metadata.sorted_tables, *messaging_tables.metadata.sorted_tables)
    for column in table.c
    if column.computed is None and {*NAMES_A_SKU} & {*table.c.keys()}
    for value in values_of(column)
]
FIELDS = sorted({one.name for event in get_args(events.Event) for one in fields(event)})
EVERY_DAMAGE += [
    (messaging_tables.event_log, messaging_tables.event_log.c.data, f"jsonb_set(data, '{{{name}}}', '{value}', false)")
    for name in FIELDS
    for value in ("null", "0", "7", "-1", str(MOST_OF_ALL), "1.5", "true", '""', '"x"', '"2199-01-01"', "[]", "{}")
]
OF_OTHERS = [
    *(page for page in PAGES if "LAMP" not in page),
    "/v1/products/SOFA",
    "/v1/products/SOFA/availability",
    "/v1/batches?sku=SOFA",
    "/v1/orders/SOFA-1",
    "/v1/events?sku=SOFA",
    "/metrics",
]


@contextmanager
def damaged(sql: Sql, table: Table, column: Column[Any], value: str) -> Iterator[bool]:
    """The rows about LAMP, as long as the context lasts; false where a constraint does not let it be."""
    own = next(name for name in NAMES_A_SKU if name in table.c)
    about = f"WHERE {own} LIKE '%LAMP%'"
    stored = ", ".join(one.name for one in table.c if one.computed is None)
    sql(f"CREATE TABLE sound AS SELECT {stored} FROM {table.name} {about}")
    changed: list[str] = []
    try:
        with suppress(DBAPIError):
            update = f"UPDATE {table.name} SET {column.name} = {value} {about}"
            changed = [row for (row,) in sql(f"{update} RETURNING CAST(ctid AS text)")]
        yield bool(changed)
    finally:
        sql(f"DELETE FROM {table.name} WHERE ctid = ANY(CAST(:changed AS tid[]))", changed=changed)
        sql(f"DELETE FROM {table.name} {about}")
        sound = f"({stored}) OVERRIDING SYSTEM VALUE SELECT {stored} FROM sound"
        sql(f"INSERT INTO {table.name} {sound} ON CONFLICT DO NOTHING")
        sql("DROP TABLE sound")


def test_whatever_is_damaged_about_one_sku_holds_back_no_other(
    two: Service, client: FlaskClient, sql: Sql, differences: Differences
) -> None:
    """A sample of all that can be in any column, or field of an event; `make test-laws` tries all of it."""
    for command in (
        ReceiveBatch("LAMP-late", "r", 8, 1, rest=Rest("LAMP-rest", date(2001, 1, 1))),
        Dispatch("LAMP-1", "d", (ParcelLine("1", 2),)),
        ReturnLine("LAMP-1", "1", 1, "t", "check"),
        CountBatch("LAMP-now", 2, 1, "c", "found"),
        Quarantine("LAMP-late", 2, "damaged", "q"),
        ReleaseQuarantine("LAMP-late", 1, "f"),
        WriteOff("LAMP-late", 1, "damaged", "w"),
        PlaceOrder("LAMP-5", (OrderedLine("LAMP", 30, "1"), OrderedLine("LAMP", 40, "2")), "backorder"),
        ReleaseLine("LAMP-3", "1"),
        CancelOrder("LAMP-2"),
        VoidHold("cart", "LAMP"),
    ):
        two.bus.handle(command)
    two.dead_letters.store(source="LAMP", message_id="LAMP", body=b"x", reason="y", attempts=1)
    two.relay.deliver(PUBLISH)
    two.bus.handle(commands.Allocate("LAMP-4", "LAMP", 1))
    some = random.sample(EVERY_DAMAGE, min(len(EVERY_DAMAGE), hypothesis_settings().max_examples))
    tried = 0
    for number, (table, column, value) in enumerate(some):
        with damaged(sql, table, column, value) as is_damaged:
            if not is_damaged:
                continue
            what, tried = f"{table.name}.{column.name} = {value}", tried + 1
            statuses = {page: client.get(page, follow_redirects=True).status_code for page in OF_OTHERS}
            assert {page for page, status in statuses.items() if status != 200} == set(), what
            sofa = {"orderid": f"new-{number}", "sku": "SOFA", "qty": 1}
            assert client.post("/v1/allocations", json=sofa).status_code in {201, 409}, what
            try:
                differences()
                two.relay.deliver(PUBLISH)
            except Exception as error:
                raise AssertionError(what) from error
    assert tried
