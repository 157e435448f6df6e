"""The database restarts, freezes, vanishes or changes places: callers are told in time, and nothing is lost."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, QueuePool, text
from sqlalchemy.exc import DBAPIError
from tests.integration.fault_proxy import FaultProxy
from werkzeug.test import TestResponse

from allocation.bootstrap import Service, bootstrap
from allocation.check import check_consistency
from allocation.config import Settings, postgres_url
from allocation.database import migrations
from allocation.database.engine import database_engine
from allocation.domain import commands
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from embedded.postgres import Postgres
from embedded.waiting import wait_for
from messaging.errors import Unavailable
from messaging.sql.connections import connection
from messaging.sql.limits import FOR_CALLERS, FOR_WORK
from messaging.sql.watchdog import Timeouts, Watchdog

Sql = Callable[..., list[tuple[Any, ...]]]
Serve = Callable[[str], FlaskClient]
THREADS = 16


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """A client of the API on this database, as one API process has it."""
    with ExitStack() as stack:

        def serve(url: str) -> FlaskClient:
            service = bootstrap(replace(settings, database_url=url), connections=THREADS, callers_wait=True)
            stack.callback(service.close)
            return create_app(service, UNRESTRICTED).test_client()

        yield serve


@pytest.fixture
def proxy(database_url: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(database_url)
    yield proxy
    proxy.close()


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A server that a test may stop, migrated."""
    server = Postgres(tmp_path / "postgres", durable=False)
    server.start()
    migrations.upgrade(postgres_url(server.url))
    yield server
    server.stop()


@contextmanager
def frozen(server: Postgres) -> Iterator[None]:
    """The postmaster first, so that it has no new children."""
    os.kill(server.pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{server.pid}/task").glob("*/children")
    stopped = [server.pid, *(int(pid) for task in tasks for pid in task.read_text().split())]
    try:
        for pid in stopped[1:]:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def add_batch(client: FlaskClient) -> TestResponse:
    return client.post("/add_batch", json={"ref": "b1", "sku": "LAMP", "qty": 1_000})


def allocate(client: FlaskClient, order: str, **headers: str) -> TestResponse:
    return client.post("/allocate", json={"orderid": order, "sku": "LAMP", "qty": 1}, headers=headers)


def ask_by_many(client: FlaskClient, prefix: str) -> list[tuple[int, str | None, float]]:
    """A hundred requests, which as many threads as the API has work off: status, Retry-After, and seconds waited."""
    begun = time.monotonic()

    def ask(number: int) -> tuple[int, str | None, float]:
        own = client.application.test_client()
        order = f"{prefix}{number}"
        answer = own.get(f"/allocations/{order}") if number % 4 == 0 else allocate(own, order)
        return answer.status_code, answer.headers.get("Retry-After"), time.monotonic() - begun

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(ask, range(100)))


OTHERS_AT_WORK = 2.5
"""Other tests share the machine; who waits for a connection without end waits far longer."""


def assert_all_refused_in_time(answers: list[tuple[int, str | None, float]]) -> None:
    assert {(status, retry_after) for status, retry_after, _ in answers} == {(503, "1")}
    assert max(waited for *_, waited in answers) < 2 * OTHERS_AT_WORK


def assert_works_again(client: FlaskClient) -> None:
    back = time.monotonic()
    assert wait_for(lambda: allocate(client, "afterwards").status_code == 202, within=10)
    assert time.monotonic() - back < 1.5


def books_balance(url: str) -> bool:
    engine = database_engine(url, connections=1)
    try:
        return check_consistency(engine).is_consistent
    finally:
        engine.dispose()


# --- away ----------------------------------------------------------------------


def test_while_the_database_is_frozen_all_are_told_within_two_seconds(serve: Serve, own_postgres: Postgres) -> None:
    url = postgres_url(own_postgres.url)
    client = serve(url)
    assert add_batch(client).status_code == 201
    assert {status for status, *_ in ask_by_many(client, "warm")} == {202, 404}

    with frozen(own_postgres):
        first = ask_by_many(client, "a")
        second = ask_by_many(client, "b")

    assert_all_refused_in_time(first)
    assert_all_refused_in_time(second)
    assert_works_again(client)
    assert books_balance(url)


def test_while_nothing_comes_through_all_are_told_within_two_seconds(
    serve: Serve, proxy: FaultProxy, database_url: str
) -> None:
    client = serve(proxy.url)
    assert add_batch(client).status_code == 201

    proxy.fall_silent()
    first = ask_by_many(client, "a")
    second = ask_by_many(client, "b")
    proxy.speak_again()

    assert_all_refused_in_time(first)
    assert_all_refused_in_time(second)
    assert_works_again(client)
    assert books_balance(database_url)


def test_who_never_had_a_connection_is_told_in_time_too(serve: Serve, proxy: FaultProxy) -> None:
    client = serve(proxy.url)
    proxy.fall_silent()

    assert_all_refused_in_time(ask_by_many(client, "a"))

    proxy.speak_again()
    assert wait_for(lambda: add_batch(client).status_code == 201, within=10)


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
def test_who_comes_first_is_told_in_time_when_the_server_lets_in_and_says_no_more(
    serve: Serve, proxy: FaultProxy, *, cut: bool
) -> None:
    """As a pooler does whose server is away. SQLAlchemy asks the first connection what server it is, and has no word
    for losing it then; and others wait for that, one after the other."""
    client = serve(proxy.url)
    proxy.after_the_login(cut=cut)

    def ask(number: int) -> tuple[int, float]:
        begun = time.monotonic()
        status = allocate(client.application.test_client(), f"o{number}").status_code
        return status, time.monotonic() - begun

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(ask, range(2 * THREADS)))
    assert {status for status, _ in answers} == {503}
    assert max(waited for _, waited in answers) < OTHERS_AT_WORK
    assert client.get("/readyz").status_code == 503

    proxy.speak_again()
    assert wait_for(lambda: add_batch(client).status_code == 201, within=10)


def test_who_meets_one_silent_connection_meets_no_other(serve: Serve, proxy: FaultProxy) -> None:
    """As when a firewall has forgotten them: new ones are to be had."""
    client = serve(proxy.url)
    assert add_batch(client).status_code == 201
    assert {status for status, *_ in ask_by_many(client, "warm")} == {202, 404}

    proxy.forget_all()

    allocate(client, "the first")
    begun = time.monotonic()
    assert [allocate(client, f"o{number}").status_code for number in range(10)] == [202] * 10
    assert time.monotonic() - begun < 5, "each that is met costs a second and a half"


def test_who_hangs_is_cut_also_when_another_noticed_the_silence_first(proxy: FaultProxy) -> None:
    through = Watchdog(Timeouts(connect=0.2)).over(database_engine(proxy.url, connections=2))
    with ExitStack() as stack:
        hanging = stack.enter_context(connection(through, "READ COMMITTED"))
        hanging.execute(text("SELECT 1"))
        proxy.fall_silent()
        with pytest.raises(Unavailable):
            connection(through, "READ COMMITTED").__enter__()
        begun = time.monotonic()
        with pytest.raises(DBAPIError):
            hanging.execute(text("SELECT 1"))
        assert time.monotonic() - begun < 2
    through.dispose()


def test_while_the_database_is_down_all_are_told_within_two_seconds(serve: Serve, own_postgres: Postgres) -> None:
    url = postgres_url(own_postgres.url)
    client = serve(url)
    assert add_batch(client).status_code == 201

    own_postgres.stop()
    answers = ask_by_many(client, "a")
    own_postgres.start()

    assert_all_refused_in_time(answers)
    assert_works_again(client)
    assert books_balance(url)


def test_a_cut_that_is_over_at_once_is_noticed_by_nobody(serve: Serve, proxy: FaultProxy) -> None:
    client = serve(proxy.url)
    assert add_batch(client).status_code == 201
    assert {status for status, *_ in ask_by_many(client, "warm")} == {202, 404}

    assert proxy.cut() > 1

    assert {status for status, *_ in ask_by_many(client, "a")} == {202, 404}


def test_a_statement_that_takes_too_long_is_ended_and_the_next_one_works(
    serve: Serve, database_url: str, sql: Sql
) -> None:
    client = serve(database_url)
    assert add_batch(client).status_code == 201
    sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'")
    sql("CREATE TRIGGER slow BEFORE INSERT ON event_log FOR EACH ROW EXECUTE FUNCTION slow()")

    begun = time.monotonic()
    answer = allocate(client, "o1")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert time.monotonic() - begun < 2
    sql("DROP TRIGGER slow ON event_log")
    assert allocate(client, "o1").status_code == 202


@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["while writing", "at the commit"])
def test_while_the_disk_is_full_callers_are_asked_to_come_later(
    serve: Serve, database_url: str, sql: Sql, when: str
) -> None:
    client = serve(database_url)
    assert add_batch(client).status_code == 201
    sql("""
        CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE 'could not extend file "base/1/2": No space left on device' USING ERRCODE = 'disk_full';
        END $$
    """)
    sql(f"CREATE CONSTRAINT TRIGGER no_room AFTER INSERT ON event_log {when} FOR EACH ROW EXECUTE FUNCTION no_room()")

    answer = allocate(client, "o1")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    sql("DROP TRIGGER no_room ON event_log")
    assert allocate(client, "o1").status_code == 202
    assert sql("SELECT count(*) FROM event_log") == [(2,)]


# --- did it commit? --------------------------------------------------------------


def test_whether_it_was_committed_is_found_out_when_the_answer_to_commit_is_lost(
    serve: Serve, proxy: FaultProxy, sql: Sql
) -> None:
    client = serve(proxy.url)
    assert add_batch(client).status_code == 201

    proxy.lose_the_next_answer_to_commit()
    answer = client.post("/allocate", json={"orderid": "o1", "sku": "LAMP", "qty": 1_001})
    while answer.status_code == 503 and not proxy.swallowed.is_set():  # a machine that stood still for a second
        answer = client.post("/allocate", json={"orderid": "o1", "sku": "LAMP", "qty": 1_001})

    assert proxy.swallowed.is_set()
    assert answer.status_code == 202
    assert sql("SELECT count(*) FROM event_log WHERE type = 'out_of_stock.v1'") == [(1,)]


# --- the pool ----------------------------------------------------------------------


def test_one_cut_connection_takes_none_from_other_threads(engine: Engine, sql: Sql) -> None:
    def pid(open_connection: Any) -> int:
        return int(open_connection.execute(text("SELECT pg_backend_pid()")).scalar_one())

    with connection(engine, "READ COMMITTED") as other:
        before = pid(other)
        with pytest.raises(Unavailable), connection(engine, "READ COMMITTED") as cut:
            cut.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        assert isinstance(engine.pool, QueuePool)
        assert engine.pool.checkedout() == 1, "the other's is still the pool's"
        assert pid(other) == before


def test_of_many_connections_at_rest_that_were_cut_one_caller_loses_one_try(
    engine: Engine, proxy: FaultProxy, sql: Sql
) -> None:
    through = database_engine(proxy.url, connections=5)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connection(through, "READ COMMITTED")).execute(text("SELECT 1"))
    assert proxy.cut() == 5

    with pytest.raises(Unavailable), connection(through, "READ COMMITTED") as stale:
        stale.execute(text("SELECT 1"))

    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connection(through, "READ COMMITTED")).execute(text("SELECT 1"))
    through.dispose()


def test_a_server_that_only_reads_is_left_for_another(service: Service, database_url: str, sql: Sql) -> None:
    """As after a failover: what the pool has are connections to the old primary, and new ones reach the new one."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    service.engine.dispose()
    name = database_url.rpartition("/")[2]
    sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(service.engine.connect()).execute(text("SELECT 1"))
    sql(f"BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT")
    tries = []

    def unit_of_work() -> Any:
        tries.append(1)
        return service.bus.unit_of_work()

    bus = replace(service.bus, unit_of_work=unit_of_work)
    assert bus.handle(commands.Allocate("o1", "LAMP", 1)) == "b1"

    assert len(tries) == 2, "the others were replaced with the first"


# --- where it is ---------------------------------------------------------------------


@pytest.mark.parametrize("order", ["{dead},{alive}", "{alive},{dead}"])
def test_of_several_hosts_the_one_that_takes_writes_is_found(
    serve: Serve, database_url: str, template: tuple[Engine, str], order: str
) -> None:
    url = template[0].url
    alive = f"{url.host}:{url.port}"
    hosts = order.format(dead="127.0.0.1:1", alive=alive)
    several = postgres_url(f"{database_url.replace(alive, hosts)}?target_session_attrs=read-write")

    assert add_batch(serve(several)).status_code == 201
    assert postgres_url(several) == several, "as the parts of the service are told"
    migrations.upgrade(several)


def test_a_silent_first_host_does_not_keep_the_second_from_being_found(
    serve: Serve, proxy: FaultProxy, database_url: str, template: tuple[Engine, str]
) -> None:
    proxy.fall_silent()
    alive = f"{template[0].url.host}:{template[0].url.port}"
    client = serve(postgres_url(database_url.replace(alive, f"127.0.0.1:{proxy.port},{alive}")))

    assert wait_for(lambda: add_batch(client).status_code == 201, within=4)


# --- limits --------------------------------------------------------------------------

SHOWN = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"


def test_sessions_have_the_limits_of_their_purpose(database_url: str) -> None:
    shown = []
    for limits in (FOR_CALLERS, FOR_WORK):
        engine = database_engine(database_url, limits=limits)
        with engine.connect() as open_connection:
            shown.append(tuple(open_connection.execute(text(SHOWN)).one()))
        engine.dispose()

    assert shown == [("1200ms", "1s"), ("2min", "10s")]


def test_what_the_url_says_wins(database_url: str) -> None:
    engine = database_engine(f"{database_url}?options=-c%20statement_timeout%3D7s", limits=FOR_CALLERS)

    with engine.connect() as open_connection:
        assert tuple(open_connection.execute(text(SHOWN)).one()) == ("7s", "1s")
    engine.dispose()


def test_what_the_role_says_wins_as_a_pooler_in_transaction_mode_needs(
    database_url: str, template: tuple[Engine, str], sql: Sql
) -> None:
    name = database_url.rpartition("/")[2]
    sql(f"ALTER ROLE allocation IN DATABASE {name} SET statement_timeout = '9s'")
    engine = database_engine(database_url, limits=FOR_CALLERS)

    with engine.connect() as open_connection:
        assert tuple(open_connection.execute(text(SHOWN)).one()) == ("9s", "1s")
    engine.dispose()


def open_files() -> int:
    gc.collect()
    return len(list(Path("/dev/fd").iterdir()))


def test_a_session_that_can_not_be_given_its_limits_leaves_nothing_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while somebody has revoked the right to see the settings."""
    monkeypatch.setattr("messaging.sql.limits._SET", "SELECT %s::text[], %s::text[], %s::text[], 1 / 0")
    engine = Watchdog().over(database_engine(database_url, limits=FOR_CALLERS))
    before = 0

    for _ in range(10):
        with pytest.raises(DBAPIError, match="zero"):
            engine.connect()
        before = before or open_files()
    assert wait_for(lambda: open_files() < before + 5, within=5)
    engine.dispose()


def test_a_null_character_in_an_order_id_is_of_no_order(serve: Serve, database_url: str) -> None:
    assert serve(database_url).get("/allocations/%00").status_code == 404
