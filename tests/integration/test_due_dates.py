"""What comes due by itself, on a real database: free at its instant, recorded once, by whom and when it may be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest
from flask.testing import FlaskClient
from tests.integration.conftest import Sql
from tests.integration.plans import explained
from tests.integration.threads import at_work

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.allocating import allocate
from allocation.domain.commands import (
    Allocate,
    ApplyDueDates,
    CancelOrder,
    ChangeBatchQuantity,
    Command,
    ConfirmHold,
    CreateBatch,
    OrderedLine,
    PlaceHold,
    PlaceOrder,
    PullForward,
    ReleaseLine,
    VoidHold,
)
from allocation.domain.errors import HoldIsOver, NoRoom
from allocation.domain.lines import SINGLE_LINE, OrderLine
from allocation.entrypoints.clock import PAUSE, REST, Clock
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.views import due_dates
from embedded.waiting import wait_for
from messaging.envelope import Request

Differences = Callable[[], list[str]]
TODAY = datetime.now(UTC).date()
YESTERDAY, TOMORROW = TODAY - timedelta(days=1), TODAY + timedelta(days=1)


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


def given(service: Service, *asked: Command) -> None:
    for command in asked:
        service.bus.handle(command)


def run_out(sql: Sql, *hold_ids: str) -> None:
    """These holds have ended, by the clock; the log says so too."""
    sql("UPDATE holds SET until = statement_timestamp() WHERE hold_id = ANY(:ids)", ids=list(hold_ids))
    sql(
        "UPDATE event_log SET data = jsonb_set(data, '{until}', to_jsonb(holds.until)) FROM holds "
        "WHERE stream = holds.sku AND type = 'hold_placed.v1' AND data ->> 'hold_id' = holds.hold_id"
    )


def events(sql: Sql, sku: str = "LAMP") -> list[str]:
    return [kind for (kind,) in sql("SELECT type FROM event_log WHERE stream = :sku ORDER BY version", sku=sku)]


def every_row(sql: Sql) -> list[Any]:
    tables = ("products", "batches", "holds", "backorders", "order_lines", "allocations", "event_log", "outbox")
    return [sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


def tick(service: Service) -> float:
    return Clock(service).tick(Event())


# --- holds ---------------------------------------------------------------------------


def test_a_hold_is_free_at_its_instant_with_nobody_to_sweep_it(
    service: Service, sql: Sql, differences: Differences
) -> None:
    given(service, CreateBatch("b", "LAMP", 1), PlaceHold("cart-9", "LAMP", 1, 1))
    assert service.bus.handle(Allocate("early", "LAMP", 1)) is None

    assert wait_for(lambda: not service.views.holds("LAMP", None, 1)[0], within=10)
    [(over_by,)] = sql("SELECT extract(epoch FROM statement_timestamp() - until) FROM holds")
    assert 0 <= over_by < 1
    assert service.bus.handle(Allocate("late", "LAMP", 1)) == "b"

    assert events(sql)[-2:] == ["hold_ended.v1", "allocated.v1"]
    assert differences() == []


def test_what_a_view_says_of_a_hold_that_has_run_out_is_what_an_order_gets(
    service: Service, client: FlaskClient, sql: Sql
) -> None:
    given(service, CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 3, 600), PlaceHold("till", "LAMP", 1, 600))
    run_out(sql, "cart-9")

    batch = client.get("/v1/batches/b").json or {}
    product = client.get("/v1/products/LAMP").json or {}
    assert (batch["available"], batch["held"], product["available"], product["held"]) == (4, 1, 4, 1)
    assert service.bus.handle(Allocate("o1", "LAMP", 4)) == "b"


def test_what_has_run_out_is_nobody_s_yet_where_somebody_waits(service: Service, client: FlaskClient, sql: Sql) -> None:
    """A newcomer gets none of it, so none is said to be available."""
    given(service, CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 5, 600))
    given(service, PlaceOrder("anna", (OrderedLine("LAMP", 5, "1"),), "backorder"))
    run_out(sql, "cart-9")

    found = client.get("/v1/products/LAMP/availability?qty=5").json or {}

    assert (found["on_hand"]["available"], found["on_hand"]["held"], found["earliest"]) == (0, 5, None)
    assert (client.get("/v1/batches/b").json or {})["available"] == 0
    assert service.bus.handle(Allocate("newcomer", "LAMP", 5)) is None


def test_a_batch_can_be_changed_as_it_is_seen_while_what_has_run_out_is_not_recorded(
    service: Service, client: FlaskClient, sql: Sql, differences: Differences
) -> None:
    given(service, CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 5, 600))
    given(service, PlaceOrder("anna", (OrderedLine("LAMP", 5, "1"),), "backorder"))
    before = client.get("/v1/batches/b").headers["ETag"]
    run_out(sql, "cart-9")
    seen = client.get("/v1/batches/b").headers["ETag"]

    assert seen == before
    assert client.patch("/v1/batches/b", json={"qty": 6}, headers={"If-Match": '"6-0-0-0-0-0-0"'}).status_code == 412
    assert client.patch("/v1/batches/b", json={"qty": 6}, headers={"If-Match": seen}).status_code == 200
    assert client.patch("/v1/batches/b", json={"qty": 7}, headers={"If-Match": seen}).status_code == 412
    assert differences() == []


def test_until_is_said_in_utc_whatever_the_session_s_time_zone_is(
    settings: Settings, service: Service, sql: Sql
) -> None:
    [(name,)] = sql("SELECT current_database()")
    sql(f"ALTER DATABASE \"{name}\" SET timezone = 'Asia/Kolkata'")
    elsewhere = bootstrap(settings, connections=1)
    try:
        given(elsewhere, CreateBatch("b", "LAMP", 5))
        held = elsewhere.bus.handle(PlaceHold("cart-9", "LAMP", 1, 600))
        again = elsewhere.bus.handle(PlaceHold("cart-9", "LAMP", 1, 600))
        found = elsewhere.views.hold("cart-9", "LAMP")
    finally:
        elsewhere.close()

    [(stored,)] = sql("SELECT data ->> 'until' FROM event_log WHERE type = 'hold_placed.v1'")
    assert held == again
    assert held["until"] == stored
    assert stored.endswith("Z")
    assert found
    assert found.until.tzinfo == UTC


def test_a_refused_or_idle_command_writes_no_row(service: Service, sql: Sql) -> None:
    given(service, CreateBatch("b", "LAMP", 1), PlaceHold("cart-9", "LAMP", 1, 600))
    order = PlaceOrder("anna", (OrderedLine("LAMP", 1, "1"),), "backorder")
    given(service, order)
    run_out(sql, "cart-9")
    before = every_row(sql)

    with pytest.raises(NoRoom):
        service.bus.handle(PlaceHold("cart-10", "LAMP", 1, 600))
    with pytest.raises(HoldIsOver):
        service.bus.handle(ConfirmHold("cart-9", "LAMP", 1, "o1"))
    placed = service.bus.handle(order)

    assert placed["lines"][0]["promises"], "it counts all the same"
    assert every_row(sql) == before


def test_of_several_products_only_those_with_new_events_are_written(
    service: Service, sql: Sql, differences: Differences
) -> None:
    given(service, CreateBatch("b", "LAMP", 2), CreateBatch("s", "SOFA", 2), PlaceHold("cart-9", "LAMP", 2, 600))
    given(service, PlaceHold("cart-9", "SOFA", 2, 600))
    wanted = OrderedLine("LAMP", 1, "1"), OrderedLine("SOFA", 1, "2")
    given(service, PlaceOrder("anna", wanted, "backorder"))
    run_out(sql, "cart-9")
    before = sql("SELECT * FROM products WHERE sku = 'LAMP'"), events(sql)

    service.bus.handle(PlaceOrder("anna", (*wanted, OrderedLine("SOFA", 1, "3")), "backorder"))

    assert (sql("SELECT * FROM products WHERE sku = 'LAMP'"), events(sql)) == before
    assert events(sql, "SOFA")[-3:] == ["hold_ended.v1", "allocated.v1", "allocated.v1"]
    assert differences() == []


def test_in_a_group_the_first_command_that_changes_something_records_what_had_run_out(
    service: Service, sql: Sql, differences: Differences
) -> None:
    given(service, CreateBatch("b", "LAMP", 3), PlaceHold("cart-9", "LAMP", 2, 600))
    run_out(sql, "cart-9")

    refused, taken, again = service.bus.handle_together(
        [
            Request(PlaceHold("cart-10", "LAMP", 4, 600)),
            Request(PlaceHold("cart-11", "LAMP", 3, 600)),
            Request(PlaceHold("cart-12", "LAMP", 1, 600)),
        ]
    )

    assert [type(one.refusal).__name__ for one in (refused, taken, again)] == ["NoRoom", "NoneType", "NoRoom"]
    assert events(sql)[2:] == ["hold_ended.v1", "hold_placed.v1"]
    assert differences() == []


def test_a_line_that_has_been_served_meanwhile_is_released_and_cancelled_as_such(
    service: Service, sql: Sql, differences: Differences
) -> None:
    given(service, CreateBatch("b", "LAMP", 1), PlaceHold("cart-9", "LAMP", 1, 600))
    for orderid, command in (("anna", ReleaseLine("anna", "1")), ("ben", CancelOrder("ben"))):
        given(service, PlaceOrder(orderid, (OrderedLine("LAMP", 1, "1"),), "backorder"))
        run_out(sql, "cart-9")

        given(service, command)

        released = [kind for kind in events(sql) if kind != "order_cancelled.v1"][-3:]
        assert released == ["hold_ended.v1", "allocated.v1", "line_released.v1"]
        given(service, PlaceHold("cart-9", "LAMP", 1, 600))
    assert differences() == []


def test_what_had_run_out_has_run_out_as_well_once_a_change_was_taken_back(service: Service, sql: Sql) -> None:
    given(service, CreateBatch("b", "LAMP", 1), PlaceHold("cart-9", "LAMP", 1, 600))
    run_out(sql, "cart-9")

    with service.bus.unit_of_work() as uow:
        assert allocate(uow.products.get("LAMP"), OrderLine("o1", "LAMP", 1)) == "b"
        uow.discard_new_events()
        assert allocate(uow.products.get("LAMP"), OrderLine("o2", "LAMP", 1)) == "b"


def test_two_processes_with_clocks_an_hour_apart_agree(settings: Settings, service: Service, tmp_path: Path) -> None:
    """They go by the database's: neither says when it is."""
    (tmp_path / "sitecustomize.py").write_text(_ANOTHER_HOUR)
    given(service, CreateBatch("b", "LAMP", 1), CreateBatch("m", "MILK", 1, None, TODAY))
    ask = [sys.executable, "-c", _COMMANDS, settings.database_url, settings.redis_url]

    def other(hours: int, *commands: str) -> list[str]:
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "HOURS": str(hours)}
        done = subprocess.run([*ask, *commands], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    second = "PlaceHold('cart-10', 'LAMP', 1, 600)"
    held, full, bought = other(+36, "PlaceHold('cart-9', 'LAMP', 1, 600)", second, "Allocate('o1', 'MILK', 1)")
    until = datetime.fromisoformat(eval(held)["until"])
    assert abs((until - datetime.now(UTC)).total_seconds() - 600) < 60
    assert [full, bought] == ["NoRoom", "'m'"]
    assert other(-36, second) == ["NoRoom"]


_ANOTHER_HOUR = """
import datetime, os, time
_by = 3600 * int(os.environ.get("HOURS", "0"))
_time, _now = time.time, datetime.datetime
time.time = lambda: _time() + _by
class Shifted(_now):
    @classmethod
    def now(cls, tz=None):
        return _now.now(tz) + datetime.timedelta(seconds=_by)
datetime.datetime = Shifted
"""
_COMMANDS = """
import sys
from dataclasses import replace
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain.commands import *
database_url, redis_url, *commands = sys.argv[1:]
service = bootstrap(replace(Settings(), database_url=database_url, redis_url=redis_url), connections=1)
for command in commands:
    try:
        print(repr(service.bus.handle(eval(command))))
    except Exception as refusal:
        print(type(refusal).__name__)
"""


def test_thousands_that_have_run_out_are_free_at_once(service: Service, sql: Sql, differences: Differences) -> None:
    """Whatever else can't be had while the clock stands still: nobody is told that there is no room."""
    given(service, CreateBatch("b", "LAMP", 2_000))
    for group in range(20):
        service.bus.handle_together([Request(PlaceHold(f"c-{group}-{one}", "LAMP", 1, 600)) for one in range(100)])
    sql("UPDATE holds SET until = statement_timestamp()")
    sql(
        "UPDATE event_log SET data = jsonb_set(data, '{until}', to_jsonb(holds.until)) FROM holds "
        "WHERE stream = 'LAMP' AND data ->> 'hold_id' = holds.hold_id"
    )

    assert service.bus.handle(Allocate("o1", "LAMP", 2_000)) == "b"

    assert sql("SELECT count(*) FROM holds") == [(0,)]
    assert differences() == []


def test_what_is_asked_of_a_sku_of_which_much_has_run_out_has_the_time_that_long_commands_have(
    settings: Settings, service: Service, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allocation.bootstrap.MANY_EVENTS", 5)
    given(service, CreateBatch("b", "LAMP", 9), *(PlaceHold(f"h{one}", "LAMP", 1, 600) for one in range(9)))
    sql("UPDATE holds SET until = statement_timestamp()")
    api = bootstrap(settings, callers_wait=True)
    try:
        assert api.explain("LAMP", 9, SINGLE_LINE).verdict == "b"
        assert len(api.bus.dry_run(Allocate("o1", "LAMP", 1)).events) == 10
        with pytest.raises(NoRoom):
            api.bus.handle(PlaceHold("cart-9", "LAMP", 10, 600))
        assert api.bus.handle(Allocate("o1", "LAMP", 9)) == "b"
    finally:
        api.close()


# --- the clock -------------------------------------------------------------------------


@pytest.fixture
def missed(service: Service, sql: Sql) -> Service:
    """A day of standstill: a hold has run out, milk has expired and a ship is late, and somebody waits."""
    given(service, CreateBatch("m1", "MILK", 9, None, YESTERDAY), CreateBatch("m2", "MILK", 3))
    given(service, CreateBatch("late", "MILK", 4, YESTERDAY), PlaceHold("cart-9", "MILK", 2, 600))
    given(service, PlaceOrder("anna", (OrderedLine("MILK", 6, "1"),), "backorder"))
    run_out(sql, "cart-9")
    return service


def test_a_day_of_standstill_is_caught_up_in_order(missed: Service, sql: Sql, differences: Differences) -> None:
    assert [one.refs for one in missed.views.due(10)] == [("late", "m1")]
    backlog = missed.views.due_dates()
    assert backlog.lag > 0
    assert backlog.overdue_batches == 1

    assert tick(missed) == PAUSE

    assert events(sql, "MILK")[-3:] == ["hold_ended.v1", "batch_overdue.v1", "batch_expired.v1"]
    assert missed.views.due_dates() == due_dates.Backlog(0.0, 1)
    assert differences() == []


def test_any_number_of_clocks_record_nothing_twice(
    missed: Service, settings: Settings, sql: Sql, differences: Differences
) -> None:
    others = [bootstrap(settings, connections=2) for _ in range(4)]
    for number in range(30):
        given(missed, CreateBatch(f"b{number}", f"SKU-{number % 5}", 1, YESTERDAY, YESTERDAY))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tick, others))
    for other in others:
        other.close()

    counted = sql(
        "SELECT type, count(*), count(DISTINCT data ->> 'ref') FROM event_log "
        "WHERE type IN ('batch_overdue.v1', 'batch_expired.v1', 'hold_ended.v1') GROUP BY type ORDER BY type"
    )
    assert counted == [("batch_expired.v1", 31, 31), ("batch_overdue.v1", 31, 31), ("hold_ended.v1", 1, 0)]
    assert missed.views.due(1) == []
    assert differences() == []


def test_in_the_relay_it_is_recorded_within_a_second_or_two(missed: Service, sql: Sql) -> None:
    with at_work(Clock(missed).run):
        assert wait_for(lambda: missed.views.due_dates().lag == 0.0, within=20)

    assert "batch_expired.v1" in events(sql, "MILK")


def have_stuck(sql: Sql, *skus: str) -> None:
    """What comes due of them can't be recorded."""
    names = ", ".join(f"'{sku}'" for sku in skus)
    sql(f"ALTER TABLE batches ADD CONSTRAINT unexpected CHECK (NOT overdue OR sku NOT IN ({names}))")


def test_what_cannot_be_recorded_of_one_sku_holds_up_no_other(
    service: Service, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    given(service, CreateBatch("broken", "AXE", 1, YESTERDAY), CreateBatch("late", "LAMP", 1, YESTERDAY))
    have_stuck(sql, "AXE")

    with at_work(Clock(service).run):
        assert wait_for(lambda: "batch_overdue.v1" in events(sql), within=20)

    assert "the clock" in caplog.text
    assert service.views.due_dates().lag > 0


def test_a_sku_that_is_stuck_with_much_that_is_due_stops_no_other(
    service: Service, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allocation.entrypoints.clock.AT_ONCE", 5)
    given(service, *(CreateBatch(f"a{number}", "AXE", 1, YESTERDAY - timedelta(days=1)) for number in range(9)))
    given(service, CreateBatch("b", "LAMP", 1, YESTERDAY))
    have_stuck(sql, "AXE")
    moment = 0.0
    clock = Clock(service, now=lambda: moment)

    with pytest.raises(Exception, match="unexpected"):
        clock.tick(Event())
    assert clock.tick(Event()) == PAUSE

    assert "batch_overdue.v1" in events(sql)
    moment = REST
    with pytest.raises(Exception, match="unexpected"):
        clock.tick(Event())


def test_skus_that_are_stuck_for_longer_than_they_rest_stop_no_other(service: Service, sql: Sql) -> None:
    """As when somebody has their rows locked: each then costs a whole lock timeout."""
    given(service, *(CreateBatch(sku, sku, 1, YESTERDAY - timedelta(days=1)) for sku in ("AXE", "BELL")))
    given(service, CreateBatch("b", "LAMP", 1, YESTERDAY))
    have_stuck(sql, "AXE", "BELL")
    moment = count(0, REST)
    clock = Clock(service, now=lambda: next(moment))

    for _ in range(3):
        with pytest.raises(Exception, match="unexpected"):
            clock.tick(Event())

    assert "batch_overdue.v1" in events(sql)


def test_the_day_is_that_of_the_time_zone_that_is_set(settings: Settings, service: Service, sql: Sql) -> None:
    """It is never the same day in both of these."""
    [(early, late)] = sql(
        "SELECT CAST(now() AT TIME ZONE 'Etc/GMT+12' AS date), CAST(now() AT TIME ZONE 'Pacific/Kiritimati' AS date)"
    )
    assert early < late
    given(service, CreateBatch("m", "MILK", 9, None, early), CreateBatch("ship", "LAMP", 9, early))
    west, east = (
        bootstrap(replace(settings, time_zone=zone), connections=2) for zone in ("Etc/GMT+12", "Pacific/Kiritimati")
    )
    try:
        assert (west.views.due(9), len(east.views.due(9))) == ([], 2)
        assert west.bus.handle(Allocate("o1", "MILK", 1)) == "m"
        assert east.bus.handle(Allocate("o2", "MILK", 1)) is None
        batches = [(one.views.batch("m"), one.views.batch("ship")) for one in (west, east)]
        states = [tuple(one.state for one in of_zone if one) for of_zone in batches]
        assert states == [("received", "expected"), ("expired", "overdue")]
        assert [room.views.room("LAMP").next_eta for room in (west, east)] == [early, None]
    finally:
        west.close()
        east.close()


VICTIM = """
import os, sys
from dataclasses import replace
from threading import Event
from allocation.adapters.unit_of_work import SqlAlchemyUnitOfWork
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.entrypoints.clock import Clock

database_url, redis_url = sys.argv[1:]
for line in sys.stdin:
    where = line.strip()
    pid = os.fork()
    if not pid:
        service = bootstrap(replace(Settings(), database_url=database_url, redis_url=redis_url), connections=1)
        def die(*_):
            os.kill(os.getpid(), 9)
        commit, prefetch = SqlAlchemyUnitOfWork.commit, SqlAlchemyUnitOfWork.prefetch
        if where == "before BEGIN":
            SqlAlchemyUnitOfWork.prefetch = die
        elif where == "before COMMIT":
            SqlAlchemyUnitOfWork.commit = die
        else:
            def commit_and_die(uow):
                commit(uow)
                die()
            SqlAlchemyUnitOfWork.commit = commit_and_die
        Clock(service).tick(Event())
        os._exit(1)
    print(os.waitpid(pid, 0)[1], flush=True)
"""
KILLS = int(os.environ.get("CLOCK_KILLS", "6"))


def test_killed_wherever_it_is_each_due_date_is_recorded_once(
    service: Service, settings: Settings, sql: Sql, differences: Differences
) -> None:
    random = Random(50)
    command = [sys.executable, "-c", VICTIM, settings.database_url, settings.redis_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdin
        assert victim.stdout
        for number in range(KILLS):
            sku = f"SKU-{number}"
            given(service, CreateBatch(f"m-{number}", sku, 3, None, YESTERDAY), CreateBatch(f"k-{number}", sku, 2))
            given(service, CreateBatch(f"l-{number}", sku, 3, YESTERDAY), PlaceHold("cart", sku, 2, 600))
            given(service, PlaceOrder(f"o-{number}", (OrderedLine(sku, 2, "1"),), "backorder"))
            run_out(sql, "cart")
            where = random.choice(["before BEGIN", "before COMMIT", "after COMMIT"])
            print(where, file=victim.stdin, flush=True)
            assert int(victim.stdout.readline()) == signal.SIGKILL
            recorded = "batch_expired.v1" in events(sql, sku)
            assert recorded == (where == "after COMMIT"), where
            tick(service)
        victim.stdin.close()

    counted = sql(
        "SELECT stream, type, count(*) FROM event_log WHERE type IN "
        "('batch_overdue.v1', 'batch_expired.v1', 'hold_ended.v1') GROUP BY 1, 2 HAVING count(*) <> 1"
    )
    assert counted == []
    assert differences() == []


# --- what it costs -----------------------------------------------------------------------


def test_what_is_due_is_found_among_all_that_is_not(service: Service, sql: Sql) -> None:
    given(service, CreateBatch("b", "LAMP", 1))
    sql("INSERT INTO holds SELECT 'LAMP', 'h' || n, 1, 'b', now() + '1 hour', n FROM generate_series(1, 3000) n")
    sql(
        "INSERT INTO batches (sku, reference, eta, expires, initial_quantity, purchased_quantity, allocated_quantity, "
        "added, overdue) SELECT 'SOFA', 'b' || n, CASE WHEN n % 2 = 0 THEN date '2001-01-01' ELSE '2199-01-01' END, "
        "'2199-01-01', 1, 1, 0, n, n % 2 = 0 FROM generate_series(1, 3000) n"
    )
    sql("ANALYZE holds")
    sql("ANALYZE batches")

    with explained() as plans:
        assert service.views.due(500) == []

    [plan] = plans
    assert plan.scanned == set()
    assert plan.rows == 0, str(plan)


def test_an_allocation_looks_at_no_hold_that_lasts(service: Service, sql: Sql) -> None:
    given(service, CreateBatch("b", "LAMP", 5), PlaceHold("cart-9", "LAMP", 1, 600))
    sql("INSERT INTO holds SELECT 'LAMP', 'h' || n, 1, 'b', now() + '1 hour', n FROM generate_series(1, 3000) n")
    sql("ANALYZE holds")

    with explained() as plans:
        assert service.bus.handle(Allocate("o1", "LAMP", 1)) == "b"

    assert sum(plan.rows for plan in plans) < 40, "\n".join(map(str, plans))


def test_promises_are_pulled_forward_from_batches_that_come_later(service: Service, differences: Differences) -> None:
    given(service, CreateBatch("april", "LAMP", 9, date(2031, 4, 1)), CreateBatch("may", "LAMP", 9, date(2031, 5, 1)))
    given(service, Allocate("o1", "LAMP", 4), Allocate("o2", "LAMP", 5), Allocate("o3", "LAMP", 2))
    given(service, PlaceOrder("waits", (OrderedLine("LAMP", 9, "1"),), "backorder"), CreateBatch("here", "LAMP", 6))

    moved = service.bus.handle(PullForward("LAMP", "here"))["moved"]

    assert [(one["orderid"], one["from"]) for one in moved] == [("o1", "april"), ("o3", "may")]
    assert [one["batchref"] for one in service.views.allocations("o3")] == ["here"]
    assert [one["batchref"] for one in service.views.allocations("waits")] == ["may"]
    assert differences() == []


@pytest.mark.parametrize("wanted", [1, 1_000])
def test_those_who_wait_are_not_read_again_for_each_hold_that_has_run_out(
    service: Service, sql: Sql, wanted: int
) -> None:
    """Served one by one, or waiting for more than there ever is."""
    many = 150
    given(service, CreateBatch("b", "LAMP", many))
    service.bus.handle_together([Request(PlaceHold(f"h{one}", "LAMP", 1, 600)) for one in range(many)])
    orders = [PlaceOrder(f"o{one}", (OrderedLine("LAMP", wanted, "1"),), "backorder") for one in range(many)]
    service.bus.handle_together([Request(order) for order in orders])
    sql("UPDATE holds SET until = statement_timestamp()")

    with explained() as plans:
        service.bus.handle(ApplyDueDates("LAMP", ()))

    asked = [plan for plan in plans if "RECURSIVE" in plan.text]
    assert sql("SELECT count(*) FROM backorders") == [(0 if wanted == 1 else many,)]
    assert len(asked) <= (many + 1 if wanted == 1 else 1)
    assert sum(plan.rows for plan in asked) < 50 * many


def test_holds_are_broken_before_promises_and_the_newest_first(
    service: Service, sql: Sql, differences: Differences
) -> None:
    given(service, CreateBatch("b", "LAMP", 300), Allocate("o1", "LAMP", 10))
    given(service, *(PlaceHold(f"h{number:03}", "LAMP", 1, 600) for number in range(220)))

    service.bus.handle(ChangeBatchQuantity("b", 60))

    assert sql("SELECT count(*), max(hold_id) FROM holds") == [(50, "h049")]
    assert service.views.allocations("o1") == [{"sku": "LAMP", "batchref": "b"}]
    given(service, VoidHold("h000", "LAMP"))
    assert differences() == []


def test_expired_goods_leave_their_promises_to_others(service: Service, sql: Sql, differences: Differences) -> None:
    given(
        service, CreateBatch("m1", "MILK", 9, None, TOMORROW), Allocate("o1", "MILK", 5), CreateBatch("m2", "MILK", 5)
    )
    sql("UPDATE batches SET expires = :day, initial_expires = :day WHERE reference = 'm1'", day=YESTERDAY)
    sql(
        "UPDATE event_log SET data = jsonb_set(data, '{expires}', to_jsonb(CAST(:day AS text))) "
        "WHERE data ->> 'ref' = 'm1'",
        day=str(YESTERDAY),
    )

    tick(service)

    assert [one["batchref"] for one in service.views.allocations("o1")] == ["m2"]
    assert events(sql, "MILK")[-3:] == ["batch_expired.v1", "deallocated.v1", "allocated.v1"]
    assert differences() == []
