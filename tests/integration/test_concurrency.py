"""Whoever comes at the same time: nothing is sold twice, nothing is lost, and every answer is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import chain, cycle
from threading import Event
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, text

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain import commands
from allocation.domain.commands import Command
from allocation.domain.errors import BatchConflict, LineConflict
from embedded.waiting import wait_for
from messaging.envelope import Outcome, Request
from messaging.errors import AlreadyThere
from messaging.sql.connections import connection

AtOnce = Callable[..., list[Any]]
Differences = Callable[[], list[str]]
Sql = Callable[..., list[tuple[Any, ...]]]

tomorrow = date(2026, 1, 2)


class Processes:
    """Several services on one database, as in several processes: they share no lock and no queue."""

    def __init__(self, services: list[Service]) -> None:
        self.services = services
        self._turn = cycle(services)

    def call(self, command: Command) -> Callable[[], object]:
        """To ask the next process for this."""
        return partial(next(self._turn).bus.handle, command)

    def given(self, *asked: Command) -> None:
        for command in asked:
            self.services[0].bus.handle(command)


@pytest.fixture
def processes(settings: Settings) -> Iterator[Processes]:
    services = [bootstrap(settings, connections=8) for _ in range(4)]
    yield Processes(services)
    for service in services:
        service.close()


@pytest.fixture(params=["one process", "four processes"])
def clients(request: pytest.FixtureRequest, processes: Processes) -> Processes:
    return Processes(processes.services[:1]) if request.param == "one process" else processes


def history(sql: Sql, sku: str) -> list[str]:
    return [kind for (kind,) in sql("SELECT type FROM event_log WHERE stream = :sku ORDER BY version", sku=sku)]


# --- stock -------------------------------------------------------------------


def test_two_writers_of_one_product_never_both_win(
    processes: Processes, at_once: AtOnce, differences: Differences
) -> None:
    for number in range(10):
        sku, ref = f"LAMP-{number}", f"b-{number}"
        processes.given(commands.CreateBatch(ref, sku, 10))

        answers = at_once(*(processes.call(commands.Allocate(f"{sku}-o{client}", sku, 7)) for client in range(4)))

        assert Counter(answers) == {ref: 1, None: 3}
    assert differences() == []


def test_clients_at_once_sell_what_is_there_and_no_more(
    clients: Processes, at_once: AtOnce, sql: Sql, differences: Differences
) -> None:
    clients.given(commands.CreateBatch("b1", "LAMP", 20))

    def ask_for_three(client: int) -> dict[str, object]:
        lines = [f"o{client}-{number}" for number in range(3)]
        return {orderid: clients.call(commands.Allocate(orderid, "LAMP", 1))() for orderid in lines}

    answers = at_once(*(partial(ask_for_three, client) for client in range(16)))

    told = dict(chain.from_iterable(answer.items() for answer in answers))
    assert Counter(told.values()) == {"b1": 20, None: 28}
    sold = {orderid for (orderid,) in sql("SELECT orderid FROM allocations_view")}
    assert sold == {orderid for orderid, batchref in told.items() if batchref}, "who was told so has it, nobody else"
    assert differences() == []


def test_an_allocation_racing_a_quantity_change_never_oversells(
    processes: Processes, at_once: AtOnce, sql: Sql, differences: Differences
) -> None:
    for number in range(12):
        sku = f"LAMP-{number}"
        processes.given(
            commands.CreateBatch(f"{sku}-b1", sku, 10),
            commands.CreateBatch(f"{sku}-b2", sku, 6, tomorrow),
            commands.Allocate(f"{sku}-o1", sku, 4),
        )

        answers = at_once(
            processes.call(commands.Allocate(f"{sku}-o2", sku, 6)),
            processes.call(commands.ChangeBatchQuantity(f"{sku}-b1", 4)),
            processes.call(commands.Allocate(f"{sku}-o3", sku, 6)),
        )

        assert not [answer for answer in answers if isinstance(answer, Exception)]
        stock = sql("SELECT reference, purchased_quantity - allocated_quantity FROM batches WHERE sku = :sku", sku=sku)
        assert dict(stock) == {f"{sku}-b1": 0, f"{sku}-b2": 0}, "o1 and one of the others, whoever came first"
        assert history(sql, sku).count("out_of_stock.v1") == 1, "the other one was told"
    assert differences() == []


# --- the same, twice ---------------------------------------------------------


def test_the_same_line_sent_at_the_same_time_is_allocated_once(
    clients: Processes, at_once: AtOnce, sql: Sql, differences: Differences
) -> None:
    clients.given(commands.CreateBatch("b1", "LAMP", 10), commands.CreateBatch("b2", "LAMP", 10))

    answers = at_once(*(clients.call(commands.Allocate("o1", "LAMP", 6, "line-1")) for _ in range(8)))

    assert answers == ["b1"] * 8
    assert history(sql, "LAMP") == ["batch_created.v1", "batch_created.v1", "allocated.v1"]
    assert differences() == []


def test_one_line_asked_for_under_two_skus_at_the_same_time_is_allocated_under_one(
    processes: Processes, at_once: AtOnce, differences: Differences
) -> None:
    for number in range(8):
        skus = [f"{sku}-{number}" for sku in ("LAMP", "TABLE")]
        processes.given(*(commands.CreateBatch(f"b-{sku}", sku, 10) for sku in skus))

        answers = at_once(*(processes.call(commands.Allocate(f"o{number}", sku, 1, "line-1")) for sku in skus))

        assert sorted(type(answer).__name__ for answer in answers) == [LineConflict.__name__, "str"]
    assert differences() == []


def test_the_same_batch_created_by_many_at_once_is_created_once(
    clients: Processes, at_once: AtOnce, sql: Sql, differences: Differences
) -> None:
    answers = at_once(*(clients.call(commands.CreateBatch("b1", "LAMP", 10, tomorrow)) for _ in range(8)))

    assert answers == [None] * 8
    assert history(sql, "LAMP") == ["batch_created.v1"]
    assert differences() == []


def test_one_reference_given_to_several_batches_at_once_is_taken_by_one(
    processes: Processes, at_once: AtOnce, sql: Sql, differences: Differences
) -> None:
    answers = at_once(*(processes.call(commands.CreateBatch("b1", f"LAMP-{number}", 10)) for number in range(8)))

    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, BatchConflict) for answer in answers) == 7
    assert sql("SELECT count(*) FROM products") == [(1,)]
    assert differences() == []


# --- readers -----------------------------------------------------------------


def test_a_reader_during_a_reallocation_never_sees_a_line_missing(processes: Processes, at_once: AtOnce) -> None:
    writer, reader = processes.services[:2]
    processes.given(
        commands.CreateBatch("b1", "LAMP", 10),
        commands.CreateBatch("b2", "LAMP", 10, tomorrow),
        *(commands.Allocate("o1", "LAMP", 3, lineid) for lineid in ("l1", "l2", "l3")),
    )
    done = Event()
    seen: list[tuple[str, ...]] = []
    both = {("b1",) * 3, ("b2",) * 3}

    def move_to_and_fro() -> None:
        deadline = monotonic() + 20
        try:
            while len(seen) < 200 or not set(seen) >= both:
                assert monotonic() < deadline, f"only {len(seen)} looks, of {set(seen)}"
                for ref, empty in (("b2", "b1"), ("b1", "b2")):
                    writer.bus.handle(commands.ChangeBatchQuantity(ref, 10))
                    writer.bus.handle(commands.ChangeBatchQuantity(empty, 0))
        finally:
            done.set()

    def look() -> None:
        while not done.is_set():
            seen.append(tuple(row["batchref"] for row in reader.views.allocations("o1")))

    outcomes = at_once(move_to_and_fro, look, look)

    assert outcomes == [None] * 3
    assert set(seen) == both, "seen in both places, always all three, and always all in one"


# --- what the database gives up ----------------------------------------------

FAIL_ONCE = """
    CREATE SEQUENCE IF NOT EXISTS {name};
    CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('{name}') = 1 THEN RAISE EXCEPTION 'once' USING ERRCODE = '{sqlstate}'; END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER {name} AFTER INSERT ON event_log {deferrable}
        FOR EACH ROW EXECUTE FUNCTION {name}();
"""


@pytest.mark.parametrize("deferrable", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["while writing", "at the commit"])
def test_a_transaction_that_the_database_gives_up_runs_again(
    service: Service, sql: Sql, differences: Differences, deferrable: str
) -> None:
    """Serialization failure, deadlock, lock not available; disk full, no memory, too many connections, a limit, system
    errors; and before the commit: time-out, standby, shutting down."""
    conflicts, outages = ["40001", "40P01", "55P03"], ["57014", "25006", "57P01"]
    without_means = ["53100", "53200", "53300", "53400", "58000", "58030"]
    for sqlstate in conflicts + without_means + ([] if deferrable else outages):
        name = f"fail_once_{sqlstate.lower()}"
        sql(FAIL_ONCE.format(name=name, sqlstate=sqlstate, deferrable=deferrable))

        assert service.bus.handle(commands.CreateBatch(sqlstate, "LAMP", 1)) is None

        assert sql(f"SELECT last_value FROM {name}") == [(2,)], "it failed once, and then succeeded"
    assert differences() == []


def test_groups_over_the_same_products_in_opposite_order_meet_at_the_first_and_never_deadlock(
    processes: Processes, at_once: AtOnce, sql: Sql, engine: Engine, differences: Differences
) -> None:
    """Rows are written sorted by key, whatever the order of the commands."""
    sql("""
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 10', current_database()); END $$;
        CREATE FUNCTION wait_before_the_second() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('test.begun', true) = 'yes' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
            PERFORM set_config('test.begun', 'yes', true);
            RETURN NEW;
        END $$;
        CREATE TRIGGER wait_before_the_second BEFORE INSERT ON products
            FOR EACH ROW EXECUTE FUNCTION wait_before_the_second();
    """)
    one, other = processes.services[:2]
    there = [Request(commands.CreateBatch(f"{sku}-1", sku, 1)) for sku in ("LAMP", "TABLE")]
    back = [Request(commands.CreateBatch(f"{sku}-2", sku, 1)) for sku in ("TABLE", "LAMP")]
    waiting = "SELECT locktype FROM pg_locks WHERE NOT granted ORDER BY locktype"
    reasons: list[BaseException] = []

    def let_them_meet() -> None:
        with connection(engine, "READ COMMITTED") as gate:
            gate.execute(text("SELECT pg_advisory_xact_lock(1)"))
            met.set()
            both_wait = [("advisory",), ("transactionid",)]
            assert wait_for(lambda: sql(waiting) == both_wait, within=20), f"{sql(waiting)} wait"

    def go(service: Service, group: list[Request]) -> list[Outcome]:
        assert met.wait(20)
        retry = replace(service.bus.retry, again=reasons.append)
        return replace(service.bus, retry=retry).handle_together(group)

    met = Event()
    outcomes = at_once(let_them_meet, partial(go, one, there), partial(go, other, back))

    assert [type(reason) for reason in reasons] == [AlreadyThere], "one was faster, and nobody was ended"
    assert outcomes == [None, [Outcome()] * 2, [Outcome()] * 2]
    assert sql("SELECT version_number FROM products") == [(2,), (2,)]
    assert differences() == []


# --- groups ------------------------------------------------------------------


def test_commands_that_wait_for_the_same_product_in_one_process_share_a_transaction(
    service: Service, at_once: AtOnce, sql: Sql, engine: Engine
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 100))
    sql("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
        CREATE TRIGGER wait BEFORE INSERT ON event_log EXECUTE FUNCTION wait();
    """)
    closed = Event()

    def let_them_gather() -> None:
        with connection(engine, "READ COMMITTED") as gate:
            gate.execute(text("SELECT pg_advisory_xact_lock(1)"))
            closed.set()
            assert wait_for(lambda: service.bus._coalescer.waiting == 9, within=20), "the others never came"

    def ask(number: int) -> object:
        assert closed.wait(20)
        return service.bus.handle(commands.Allocate(f"o{number}", "LAMP", 1))

    answers = at_once(let_them_gather, *(partial(ask, number) for number in range(10)))

    assert answers == [None] + ["b1"] * 10
    transactions = sql("SELECT count(*) FROM event_log WHERE version > 1 GROUP BY transaction_id ORDER BY 1")
    assert transactions == [(1,), (9,)], "the first one alone, all who came meanwhile together"


def test_a_product_that_another_process_has_locked_holds_up_its_own_commands_only(
    service: Service, engine: Engine
) -> None:
    """Both come while another transaction is in flight, so they begin in one group."""
    for sku in ("HOT", "LAMP", "TABLE"):
        service.bus.handle(commands.CreateBatch(f"of-{sku}", sku, 100))
    bus = service.bus
    of_other_process = text("SELECT FROM products WHERE sku = :sku FOR UPDATE")

    with ThreadPoolExecutor(3) as pool, connection(engine, "READ COMMITTED") as other:
        other.execute(of_other_process, {"sku": "HOT"})
        with connection(engine, "READ COMMITTED") as another:
            another.execute(of_other_process, {"sku": "TABLE"})
            busy = pool.submit(bus.handle, commands.Allocate("o1", "TABLE", 1))
            assert wait_for(lambda: bus._coalescer._in_flight, within=20), "it never began"
            hot = pool.submit(bus.handle, commands.Allocate("o1", "HOT", 1))
            lamp = pool.submit(bus.handle, commands.Allocate("o1", "LAMP", 1))
        assert busy.result(20) == "of-TABLE"
        assert replace(service.bus).handle(commands.Allocate("o2", "LAMP", 1)) == "of-LAMP"
        assert lamp.result(8) == "of-LAMP", "before a wait for the lock would be given up"
        assert not hot.done()
        other.rollback()
        assert hot.result(20) == "of-HOT"


def test_a_key_that_a_session_holds_for_long_holds_up_its_own_command_only(settings: Settings, engine: Engine) -> None:
    """Once its first try has come to the end of its patience, which is a second here and not ten."""
    url = make_url(settings.database_url).update_query_dict({"options": "-c lock_timeout=1s"})
    impatient = replace(settings, database_url=url.render_as_string(hide_password=False))

    with closing(bootstrap(impatient)) as service, ThreadPoolExecutor(1) as pool:
        for sku in ("LAMP", "TABLE"):
            service.bus.handle(commands.CreateBatch(f"of-{sku}", sku, 100))
        with connection(engine, "READ COMMITTED") as other:
            other.execute(text("INSERT INTO order_lines VALUES ('o1', 'LAMP', 'TABLE', 1)"))
            held_up = pool.submit(service.bus.handle, commands.Allocate("o1", "LAMP", 1))
            assert wait_for(partial(somebody_waits, engine), within=20), "it never came"
            for number in range(20):
                assert service.bus.handle(commands.Allocate(f"other-{number}", "TABLE", 1)) == "of-TABLE"
            assert not held_up.done()
            other.rollback()
            assert held_up.result(20) == "of-LAMP"


def somebody_waits(engine: Engine) -> bool:
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted")
    with connection(engine) as looking:
        return bool(looking.scalar(waiting))


def test_groups_of_two_processes_over_the_same_products_neither_deadlock_nor_time_out(
    processes: Processes, at_once: AtOnce, differences: Differences
) -> None:
    skus = [f"LAMP-{number}" for number in range(6)]
    reasons: list[BaseException] = []
    buses = [replace(one.bus, retry=replace(one.bus.retry, again=reasons.append)) for one in processes.services[:2]]
    for sku in skus:
        buses[0].handle(commands.CreateBatch(f"of-{sku}", sku, 1_000))

    def work(thread: int) -> list[object]:
        order = skus if thread % 2 else skus[::-1]
        bus = buses[thread // 8]
        return [bus.handle(commands.Allocate(f"o{thread}-{number}", sku, 1)) for number in range(10) for sku in order]

    answers = list(chain.from_iterable(at_once(*(partial(work, thread) for thread in range(16)))))

    assert Counter(answers) == {f"of-{sku}": 160 for sku in skus}
    texts = [str(reason) for reason in reasons]
    assert [text for text in texts if "deadlock" in text or "timeout" in text] == []
    assert differences() == []


# --- many --------------------------------------------------------------------


def test_threads_share_one_bus(service: Service, at_once: AtOnce, sql: Sql, differences: Differences) -> None:
    def work(thread: int) -> list[object]:
        answers = []
        for number in range(25):
            name, sku = f"{thread}-{number}", f"LAMP-{number % 5}"
            service.bus.handle(commands.CreateBatch(f"b{name}", sku, 1))
            answers.append(service.bus.handle(commands.Allocate(f"o{name}", sku, 1)))
        return answers

    answers = list(chain.from_iterable(at_once(*(partial(work, thread) for thread in range(8)))))

    assert len(set(answers)) == 200, "each its own batch, none out of stock"
    assert {batchref for (batchref,) in sql("SELECT batchref FROM allocations_view")} == set(answers)
    assert sql("SELECT count(*) FROM event_log") == [(400,)]
    assert differences() == []
