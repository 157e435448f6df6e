"""What is answered of an order: its allocated lines, as they are now, and nothing of any other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date

import pytest

from allocation.bootstrap import Service
from allocation.database.engine import database_engine
from allocation.domain import commands
from allocation.views import Views
from messaging.envelope import Request
from messaging.errors import Unavailable
from messaging.sql.connections import Database

tomorrow = date(2026, 1, 2)


def given(service: Service, *asked: commands.Command) -> None:
    for outcome in service.bus.handle_together([Request(command) for command in asked]):
        outcome.unwrap()


def test_an_orders_lines_come_in_the_order_in_which_they_were_allocated(service: Service) -> None:
    skus = ["LAMP", "TABLE", "CHAIR", "APPLE"]
    given(service, *(commands.CreateBatch(f"b-{sku}", sku, 10) for sku in skus))

    given(service, *(commands.Allocate("o1", sku, 1) for sku in skus), commands.Allocate("o1", "LAMP", 1, "again"))

    assert service.views.allocations("o1") == [
        {"sku": "LAMP", "batchref": "b-LAMP"},
        {"sku": "TABLE", "batchref": "b-TABLE"},
        {"sku": "CHAIR", "batchref": "b-CHAIR"},
        {"sku": "APPLE", "batchref": "b-APPLE"},
        {"sku": "LAMP", "batchref": "b-LAMP"},
    ]


def test_an_order_that_nobody_allocated_has_no_lines(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 1), commands.Allocate("o1", "LAMP", 2))

    assert service.views.allocations("o1") == [], "out of stock"
    assert service.views.allocations("o2") == [], "never heard of"


def test_orders_are_told_apart_by_every_byte(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 9), commands.Allocate("caf\u00e9/1", "LAMP", 1))

    assert len(service.views.allocations("caf\u00e9/1")) == 1
    for other in ("cafe\u0301/1", "CAF\u00c9/1", "caf\u00e9/1 ", "caf\u00e9", "%"):
        assert service.views.allocations(other) == []


def test_a_moved_line_is_seen_in_its_new_place_as_the_latest(service: Service) -> None:
    given(
        service,
        commands.CreateBatch("b1", "LAMP", 1),
        commands.CreateBatch("b2", "LAMP", 1, tomorrow),
        commands.CreateBatch("b3", "TABLE", 1),
        commands.Allocate("o1", "LAMP", 1),
        commands.Allocate("o1", "TABLE", 1),
    )

    given(service, commands.ChangeBatchQuantity("b1", 0))

    assert service.views.allocations("o1") == [{"sku": "TABLE", "batchref": "b3"}, {"sku": "LAMP", "batchref": "b2"}]


@pytest.mark.own_database
def test_the_order_of_allocation_does_not_depend_on_where_rows_happen_to_lie(
    service: Service, sql: Callable[[str], object]
) -> None:
    """The latest row lies where the first one was."""
    given(service, commands.CreateBatch("b1", "LAMP", 1), commands.CreateBatch("b2", "LAMP", 1, tomorrow))
    given(service, commands.CreateBatch("b3", "TABLE", 2))
    given(service, commands.Allocate("o1", "LAMP", 1, "z"), commands.Allocate("o1", "TABLE", 1, "y"))
    given(service, commands.ChangeBatchQuantity("b1", 0))
    sql("VACUUM allocations_view")

    given(service, commands.Allocate("o1", "TABLE", 1, "x"))

    assert [line["batchref"] for line in service.views.allocations("o1")] == ["b3", "b2", "b3"]


def test_a_line_that_lost_its_place_is_no_longer_seen(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 1), commands.Allocate("o1", "LAMP", 1))

    given(service, commands.ChangeBatchQuantity("b1", 0))

    assert service.views.allocations("o1") == []


def test_an_answer_is_given_although_connections_were_cut(service: Service, cut_connections: Callable[[], int]) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 1), commands.Allocate("o1", "LAMP", 1))
    assert cut_connections() > 0

    assert service.views.allocations("o1") == [{"sku": "LAMP", "batchref": "b1"}]


def test_a_database_that_is_away_is_said_so(
    service: Service, database_away: Callable[[], AbstractContextManager[None]]
) -> None:
    with database_away(), pytest.raises(Unavailable):
        service.views.allocations("o1")


def test_a_schema_that_is_not_there_is_said_so(unmigrated_url: str) -> None:
    engine = database_engine(unmigrated_url)

    with pytest.raises(Unavailable, match="migrate it first"):
        Views(Database(engine)).allocations("o1")

    engine.dispose()
