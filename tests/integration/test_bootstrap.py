"""The whole service, wired as in production: what it says of itself, and how it outlives its surroundings."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, make_url, text

from allocation.adapters.notifications import FileNotifications, SmtpNotifications
from allocation.bootstrap import Service, bootstrap, notifications_for
from allocation.config import Settings, postgres_url
from allocation.database import migrations
from allocation.database.engine import database_engine
from allocation.domain import commands
from allocation.domain.events import BatchCreated
from allocation.service_layer.routing import PUBLISH_EVENT
from embedded.postgres import Postgres
from embedded.valkey import Redis
from messaging.errors import ConcurrencyConflict, Disconnected, Unavailable
from messaging.redis.client import run_of
from messaging.sql.connections import connection

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def build() -> Iterator[Callable[[Settings], Service]]:
    built = []

    def build(settings: Settings) -> Service:
        built.append(bootstrap(settings))
        return built[-1]

    yield build
    for service in built:
        service.close()


Build = Callable[[Settings], Service]


# --- readiness ---------------------------------------------------------------


def test_is_ready_when_database_and_redis_are_there(service: Service) -> None:
    found = service.readiness()
    assert found.pop("redis_run") == run_of(service.redis)
    assert found == {"status": "ready", "database": "ok", "redis": "ok"}


def test_is_not_ready_before_the_database_is_migrated_and_is_afterwards(
    settings: Settings, unmigrated_url: str, build: Build
) -> None:
    service = build(replace(settings, database_url=unmigrated_url))

    before = service.readiness()
    migrations.upgrade(unmigrated_url)

    assert (before["status"], before["redis"]) == ("not ready", "ok")
    assert "migrate it first" in before["database"]
    assert service.readiness()["status"] == "ready", "without a restart"


@pytest.mark.parametrize("column", ["products ALTER version_number", "outbox ALTER attempts"])
def test_a_column_that_gets_another_type_needs_no_restart(
    service: Service, sql: Callable[..., object], column: str
) -> None:
    """What was prepared before is refused by the server until it is prepared anew."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 100))

    def work() -> None:
        for number in range(8):  # the driver prepares what it has sent a few times
            service.bus.handle(commands.Allocate(f"{time.monotonic()}-{number}", "LAMP", 1))
            assert service.relay.deliver(PUBLISH_EVENT)
            assert service.views.product("LAMP")

    work()
    for kind in ("bigint", "integer"):
        sql(f"ALTER TABLE {column} TYPE {kind}")
        service.bus.handle(commands.Allocate(f"first with {kind}", "LAMP", 1))
        for ask in (lambda: service.views.product("LAMP"), lambda: service.relay.deliver(PUBLISH_EVENT)):
            with suppress(Disconnected):  # once, and who asks does so again
                ask()
        work()


def test_a_column_that_gets_another_type_costs_a_caller_no_answer_however_many_connections_there_are(
    settings: Settings, sql: Callable[..., object]
) -> None:
    """What is prepared is stale on all that are as old: one after the other would take too long."""
    service = bootstrap(settings, connections=12, callers_wait=True)
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1_000))
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connection(service.engine))
    for number in range(36):
        service.bus.handle(commands.Allocate(f"o{number}", "LAMP", 1))
    closed = list[object]()
    event.listen(service.engine, "close", lambda driver, _: closed.append(driver))

    sql("ALTER TABLE products ALTER version_number TYPE integer")

    assert service.bus.handle(commands.Allocate("first", "LAMP", 1)) == "b1"
    for number in range(36):
        service.bus.handle(commands.Allocate(f"later {number}", "LAMP", 1))
    assert len(closed) == 12
    service.close()


@pytest.fixture
def with_one_connection(settings: Settings) -> Iterator[Service]:
    """On which the driver has prepared statements, and the bus too."""
    service = bootstrap(settings, connections=1, callers_wait=True)
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 100))
    for number in range(8):
        service.bus.handle(commands.Allocate(f"o{number}", "LAMP", 1))
        service.views.product("LAMP")
    yield service
    service.close()


def session(service: Service) -> tuple[int, set[str]]:
    """Which it is, and what is prepared in it."""
    with connection(service.engine) as open_connection:
        names = set(open_connection.execute(text("SELECT name FROM pg_prepared_statements")).scalars())
        return open_connection.execute(text("SELECT pg_backend_pid()")).scalar_one(), names


def test_a_conflict_costs_neither_the_connection_nor_what_is_prepared_there(
    with_one_connection: Service, sql: Callable[..., object]
) -> None:
    """The driver lets go of all that is prepared when it rolls back."""
    before, prepared = session(with_one_connection)
    assert {name.partition("_")[0] for name in prepared} == {"", "together"}

    def lose() -> None:
        with with_one_connection.bus.unit_of_work() as uow:
            uow.products.get("LAMP").record(BatchCreated("b2", "LAMP", 1, None))
            sql("UPDATE products SET waiting = waiting")
            uow.commit()

    with pytest.raises(ConcurrencyConflict):
        lose()

    after, still_prepared = session(with_one_connection)
    assert after == before
    assert still_prepared >= prepared


def test_what_is_prepared_no_more_costs_no_connection(with_one_connection: Service) -> None:
    """The bus prepares it anew, where it is."""
    before, _ = session(with_one_connection)
    with connection(with_one_connection.engine) as open_connection:
        open_connection.exec_driver_sql("DEALLOCATE ALL")

    assert with_one_connection.bus.handle(commands.Allocate("o9", "LAMP", 1)) == "b1"

    assert session(with_one_connection)[0] == before


def test_is_not_ready_on_a_schema_of_another_release(service: Service, sql: Callable[..., object]) -> None:
    sql("UPDATE alembic_version SET version_num = 'next'")

    assert service.readiness()["status"] == "not ready"


def test_is_not_ready_on_a_database_that_only_reads(settings: Settings, build: Build) -> None:
    reads = f"{settings.database_url}?options=-c%20default_transaction_read_only%3Don"

    readiness = build(replace(settings, database_url=reads)).readiness()

    assert readiness["status"] == "not ready"
    assert readiness["database"].startswith("the database only reads")


def test_is_not_ready_when_the_database_is_out_of_reach(settings: Settings, build: Build) -> None:
    service = build(replace(settings, database_url=f"postgresql+psycopg://allocation@{NOWHERE}/allocation"))

    begun = time.monotonic()
    readiness = service.readiness()

    assert (readiness["status"], readiness["redis"]) == ("not ready", "ok")
    assert "connection failed" in readiness["database"]
    assert time.monotonic() - begun < 5


def test_is_degraded_when_redis_is_out_of_reach_and_takes_orders_all_the_same(settings: Settings, build: Build) -> None:
    service = build(replace(settings, redis_url=f"redis://{NOWHERE}/0"))

    assert service.readiness() == {"status": "degraded", "database": "ok", "redis": "unreachable"}
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    assert service.bus.handle(commands.Allocate("o1", "LAMP", 1)) == "b1"
    assert service.relay.deliver(PUBLISH_EVENT) == 0, "the event waits"


@pytest.mark.parametrize("url", ["redis://{0}/0", "redis+sentinel://{0},{0},{0}/stock"])
def test_is_degraded_and_says_so_within_a_second_when_redis_takes_connections_and_never_answers(
    settings: Settings, build: Build, url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = build(replace(settings, redis_url=url.format(f"127.0.0.1:{silent.getsockname()[1]}")))
        service.readiness()  # connects to the database, which takes its own time
        begun = time.monotonic()

        assert service.readiness() == {"status": "degraded", "database": "ok", "redis": "unreachable"}

        assert time.monotonic() - begun < 1.5


def test_a_readiness_probe_never_tells_a_password(settings: Settings, build: Build) -> None:
    url = make_url(settings.database_url).set(password="open-sesame", port=1)
    service = build(replace(settings, database_url=url.render_as_string(hide_password=False)))

    assert "open-sesame" not in str(service.readiness())


# --- parts -------------------------------------------------------------------


def test_nothing_is_connected_before_it_is_used(settings: Settings, build: Build) -> None:
    nowhere = replace(
        settings,
        database_url=f"postgresql+psycopg://x@{NOWHERE}/x",
        redis_url=f"redis://{NOWHERE}/0",
        home=Path("/nowhere"),
    )

    build(nowhere)


def test_mails_go_to_the_server_that_is_set_and_else_to_files(settings: Settings) -> None:
    assert isinstance(notifications_for(replace(settings, smtp_url="smtp://localhost:1025")), SmtpNotifications)
    assert isinstance(notifications_for(replace(settings, smtp_url="")), FileNotifications)


def test_never_takes_more_connections_than_it_was_given(settings: Settings) -> None:
    service = bootstrap(settings, connections=2)
    try:
        with service.bus.unit_of_work() as one, service.bus.unit_of_work() as two:
            one.products.get("LAMP")
            two.products.get("LAMP")
            with pytest.raises(Unavailable, match="no free database connection"):
                service.views.allocations("o1")
    finally:
        service.close()


# --- the surroundings come and go --------------------------------------------


def test_the_first_call_after_all_connections_were_cut_works(
    service: Service, cut_connections: Callable[[], int]
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    for number in range(3):
        assert cut_connections() > 0

        assert service.bus.handle(commands.Allocate(f"o{number}", "LAMP", 1)) == "b1"

    assert cut_connections() > 0
    assert service.readiness()["status"] == "ready"


def test_a_connection_cut_while_writing_is_made_good_by_running_again_without_noise(
    service: Service, sql: Callable[..., list[tuple[object, ...]]], caplog: pytest.LogCaptureFixture
) -> None:
    """The first transaction that logs an event is ended by the server in the middle of the pipeline."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    sql("""
        CREATE SEQUENCE writes;
        CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS '
            BEGIN
                IF nextval(''writes'') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
                RETURN NEW;
            END';
        CREATE TRIGGER cut BEFORE INSERT ON event_log FOR EACH ROW EXECUTE FUNCTION cut();
    """)

    assert service.bus.handle(commands.Allocate("o1", "LAMP", 1)) == "b1"

    assert sql("SELECT last_value FROM writes") == [(2,)]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("psycopg")] == []
    assert sql("SELECT allocated_quantity FROM batches") == [(1,)]


def test_while_the_database_is_away_callers_are_told_within_seconds(
    service: Service, database_away: Callable[[], AbstractContextManager[None]]
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))

    with database_away():
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="given up after"):
            service.bus.handle(commands.Allocate("o1", "LAMP", 1))
        assert time.monotonic() - begun < 5

    assert service.bus.handle(commands.Allocate("o1", "LAMP", 1)) == "b1"


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A server that a test may stop."""
    server = Postgres(tmp_path / "postgres", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path / "redis", durable=False)
    server.start()
    yield server
    server.stop()


def test_a_service_outlives_its_database(settings: Settings, build: Build, own_postgres: Postgres) -> None:
    url = postgres_url(own_postgres.url)
    migrations.upgrade(url)
    service = build(replace(settings, database_url=url))
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    service.bus.handle(commands.Allocate("o1", "LAMP", 1))

    own_postgres.stop()
    assert service.readiness()["status"] == "not ready"
    with pytest.raises(Unavailable):
        service.bus.handle(commands.Allocate("o2", "LAMP", 1))
    with pytest.raises(Unavailable):
        service.relay.deliver(PUBLISH_EVENT)

    own_postgres.start()
    assert service.bus.handle(commands.Allocate("o2", "LAMP", 1)) == "b1", "the first call after it is back"
    assert service.views.allocations("o1") == [{"sku": "LAMP", "batchref": "b1"}]
    assert service.relay.deliver(PUBLISH_EVENT) == 3
    assert service.readiness()["status"] == "ready"


def test_a_service_outlives_its_redis(
    settings: Settings, build: Build, own_redis: Redis, sql: Callable[..., list[tuple[object, ...]]]
) -> None:
    service = build(replace(settings, redis_url=own_redis.url))
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    assert service.readiness()["status"] == "ready"

    own_redis.stop()
    service.bus.handle(commands.Allocate("o1", "LAMP", 1))
    assert service.relay.deliver(PUBLISH_EVENT) == 0
    assert service.readiness()["status"] == "degraded"

    own_redis.start()
    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    assert service.relay.deliver(PUBLISH_EVENT) == 2
    assert service.readiness()["status"] == "ready"


def test_options_in_the_url_reach_the_server(database_url: str) -> None:
    engine = database_engine(f"{database_url}?options=-c%20search_path%3Delsewhere")

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW search_path").scalar() == "elsewhere"
    engine.dispose()
