"""Two commands at the same moment, of which the second has read what was there before the first: whatever they are, all
is as if one had come after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from threading import Thread
from typing import Any, get_args

import pytest
from sqlalchemy import Engine, text
from tests.fakes import Service as InMemory
from tests.integration.conftest import Sql

from allocation.adapters.unit_of_work import SqlAlchemyUnitOfWork
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.database import tables
from allocation.domain import commands as c
from allocation.domain.errors import DomainError
from allocation.domain.events import HoldExtended, HoldPlaced
from embedded.waiting import wait_for
from messaging.sql import tables as messaging_tables

PATIENCE = 20.0
ALL = "TESTS_ALL_PAIRS" in os.environ
"""`make test-pairs` sets it."""

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)

STOCK: list[c.Command] = [
    c.CreateBatch("here", "LAMP", 20),
    c.CreateBatch("other", "LAMP", 20),
    c.CreateBatch("ship", "LAMP", 20, date(2031, 1, 1)),
    c.Allocate("o1", "LAMP", 8, "1"),
    c.Allocate("o2", "LAMP", 8, "1"),
    c.Dispatch("o1", "d-0", (c.ParcelLine("1", 2),)),
    c.Quarantine("here", 2, "suspect", "q-0"),
    c.PlaceOrder("o3", (c.OrderedLine("LAMP", 30, "1"),), "backorder"),
    c.PlaceOrder("o4", (c.OrderedLine("LAMP", 4, "1"), c.OrderedLine("SOFA", 9, "2")), "backorder"),
    c.PlaceOrder("o6", (c.OrderedLine("SOFA", 6, "1"),), "partial"),
    c.PlaceHold("old", "LAMP", 3, 60),
    c.PlaceHold("cart", "LAMP", 2, 600),
    c.CreateBatch("milk", "LAMP", 5, None, YESTERDAY),
    c.CreateBatch("late", "LAMP", 5, YESTERDAY),
]
GONE_BY = 61
"""Seconds since: one of the holds has run out."""

ASKED: dict[str, c.Command] = {
    "create": c.CreateBatch("new", "LAMP", 5),
    "allocate": c.Allocate("o1", "LAMP", 3, "2"),
    "allocate another SKU": c.Allocate("o1", "SOFA", 1, "3"),
    "change quantity": c.ChangeBatchQuantity("here", 12),
    "change eta": c.ChangeEta("ship", date(2031, 2, 1)),
    "receive": c.ReceiveBatch("ship", "r-1", 15, 2, None, c.Rest("rest", date(2031, 3, 1))),
    "count": c.CountBatch("here", 15, 16, "c-1", "lost"),
    "quarantine": c.Quarantine("here", 6, "damaged", "q-1"),
    "release quarantine": c.ReleaseQuarantine("here", 1, "q-2"),
    "write off": c.WriteOff("here", 2, "lost", "w-1"),
    "place": c.PlaceOrder("o5", (c.OrderedLine("SOFA", 2, "2"), c.OrderedLine("LAMP", 3, "1")), "all_or_nothing"),
    "place more": c.PlaceOrder("o1", (c.OrderedLine("LAMP", 3, "2"), c.OrderedLine("SOFA", 1, "3")), "partial"),
    "change up": c.ChangeLine("o1", "1", 9),
    "change what waits": c.ChangeLine("o3", "1", 3),
    "release line": c.ReleaseLine("o1", "1"),
    "cancel": c.CancelOrder("o1"),
    "dispatch": c.Dispatch("o1", "d-1", (c.ParcelLine("1", 6),)),
    "dispatch from another": c.Dispatch("o2", "d-1", (c.ParcelLine("1", 8, "other"),)),
    "return": c.ReturnLine("o1", "1", 2, "b-1", "good"),
    "hold": c.PlaceHold("till", "LAMP", 3, 600),
    "confirm": c.ConfirmHold("cart", "LAMP", 1, "o7", "1"),
    "extend": c.ExtendHold("cart", "LAMP", 1200),
    "void": c.VoidHold("cart", "LAMP"),
    "take over": c.PlaceOrder("o8", (c.OrderedLine("LAMP", 2, "1", "cart"),), "all_or_nothing"),
    "pull forward": c.PullForward("LAMP", "other"),
    "due dates": c.ApplyDueDates("LAMP", ("milk", "late")),
}


def test_every_command_is_one_of_a_pair() -> None:
    assert {type(command) for command in ASKED.values()} == {*get_args(c.Command)} - {
        c.ReportShortages
    }  # which touches nothing


@pytest.fixture
def two(settings: Settings) -> Iterator[list[Service]]:
    services = [bootstrap(settings, connections=4) for _ in range(2)]
    yield services
    for service in services:
        service.close()


def ask(handle: Callable[[Any], object], command: object) -> str:
    try:
        answer = handle(command)
        return repr({**answer, "until": "later"} if isinstance(answer, dict) and "until" in answer else answer)
    except DomainError as refusal:
        return str(refusal)


def answer(answers: dict[str, str], service: Service, early: object) -> None:
    answers["early"] = ask(service.bus.handle, early)


def timeless(event: object) -> object:
    if isinstance(event, HoldPlaced | HoldExtended):
        return replace(event, until=datetime.max.replace(tzinfo=UTC))
    return event


def in_turn(*asked: object) -> tuple[list[str], dict[str, list[object]]]:
    """What is answered, and what has happened, one after the other."""
    service = InMemory(TODAY)
    service.given(c.CreateBatch("sofa", "SOFA", 5), *STOCK)
    service.now += timedelta(seconds=GONE_BY)
    answers = []
    for command in asked:
        service.now += timedelta(milliseconds=1)
        answers.append(ask(service.bus.handle, command))
    return answers, {sku: list(map(timeless, service.history(sku))) for sku in ("LAMP", "SOFA")}


def happened(service: Service, sku: str) -> list[object]:
    with service.bus.unit_of_work() as uow:
        found: list[object] = uow.event_log.history(sku)  # type: ignore[attr-defined]  # the SQL one
        return list(map(timeless, found))


def is_stuck(sql: Sql) -> bool:
    return bool(sql("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"))


@pytest.mark.parametrize("name", ASKED)
def test_of_two_at_once_one_comes_after_the_other(
    two: list[Service], engine: Engine, sql: Sql, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    late = ASKED[name]
    commit = SqlAlchemyUnitOfWork.commit
    for other, early in ASKED.items():
        if not (ALL or other in {name, "cancel", "dispatch from another", "due dates"}):
            continue
        names = [table.name for table in (*tables.metadata.sorted_tables, *messaging_tables.metadata.sorted_tables)]
        with engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(names)}"))
        for command in (c.CreateBatch("sofa", "SOFA", 5), *STOCK):
            two[0].bus.handle(command)
        with engine.begin() as connection:
            connection.execute(text(f"UPDATE holds SET until = until - interval '{GONE_BY} seconds'"))
        answers: dict[str, str] = {}
        between = Thread(target=partial(answer, answers, two[1], early))
        began: list[Any] = []

        def commit_later(uow: SqlAlchemyUnitOfWork, between: Thread = between, began: list[Any] = began) -> None:
            if not began:
                began.append(uow)
                between.start()
                assert wait_for(lambda: not between.is_alive() or is_stuck(sql), within=PATIENCE)
            commit(uow)

        monkeypatch.setattr(SqlAlchemyUnitOfWork, "commit", commit_later)
        answers["late"] = ask(two[0].bus.handle, late)
        monkeypatch.setattr(SqlAlchemyUnitOfWork, "commit", commit)
        if not began:  # refused before anything was read
            between.start()
        between.join(PATIENCE)

        found = {sku: happened(two[0], sku) for sku in ("LAMP", "SOFA")}
        (first, second), after = in_turn(early, late)
        (second_first, first_second), before = in_turn(late, early)
        assert (answers["early"], answers["late"], found) in [
            (first, second, after),
            (first_second, second_first, before),
        ], f"{other}, then {name}"
