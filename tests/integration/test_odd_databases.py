"""Databases as they are found: in another encoding, with other defaults, with all their slots in use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
import redis
from sqlalchemy import URL, make_url, text
from tests.integration.conftest import Sql
from tests.integration.databases import Databases

from allocation.adapters.redis_channels import COMMANDS
from allocation.bootstrap import Service, bootstrap
from allocation.check import open_snapshot
from allocation.config import Settings
from allocation.database import migrations
from allocation.database.engine import database_engine
from allocation.database.schema import require_current_schema
from allocation.domain import commands
from allocation.entrypoints import redis_commands
from allocation.overview.servers import database
from embedded.waiting import wait_for
from messaging.errors import Unavailable
from messaging.sql import watchdog
from messaging.sql.connections import connection
from messaging.sql.log_reader import EventFilter


@contextmanager
def encoded(databases: Databases, encoding: str) -> Iterator[str]:
    with databases.admin.connect() as connection:
        connection.execute(
            text(f"CREATE DATABASE odd ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        )
        try:
            yield databases.url_of("odd")
        finally:
            connection.execute(text("DROP DATABASE odd WITH (FORCE)"))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_can_not_store_every_name_is_refused(databases: Databases, encoding: str) -> None:
    with encoded(databases, encoding) as url:
        engine = database_engine(url)
        asked = (
            partial(migrations.upgrade, url),
            partial(require_current_schema, engine),
            partial(database, engine, "UTC"),
        )
        for refuse in asked:
            with pytest.raises(Unavailable, match=f"the database's encoding is {encoding}, not UTF8"):
                refuse()
        engine.dispose()


def test_whatever_encoding_clients_have_by_default_ours_is_utf8(
    settings: Settings, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    service = bootstrap(settings)

    service.bus.handle(commands.CreateBatch("b-\N{CHAIR}", "CHÄIR", 5))

    assert service.bus.handle(commands.Allocate("o1", "CHÄIR", 5)) == "b-\N{CHAIR}"
    service.close()


@pytest.fixture
def as_ordinary_role(settings: Settings, databases: Databases) -> Iterator[Service]:
    """Two connections for callers, as a role that is no superuser: its slots are used up before the last ones."""
    with databases.admin.connect() as connection:
        connection.execute(
            text("CREATE ROLE ordinary LOGIN PASSWORD 'secret' IN ROLE pg_read_all_data, pg_write_all_data")
        )
    url = databases.admin.url.set(username="ordinary", password="secret")
    own = url.set(database=settings.database_url.rpartition("/")[2].partition("?")[0])
    service = bootstrap(
        replace(settings, database_url=own.render_as_string(hide_password=False)), connections=2, callers_wait=True
    )
    yield service
    service.close()
    with databases.admin.connect() as connection:
        connection.execute(text("DROP ROLE ordinary"))


def take_all_slots(url: URL, slots: ExitStack) -> None:
    with suppress(psycopg.OperationalError):
        while True:
            slots.enter_context(psycopg.connect(url.render_as_string(hide_password=False)))


def answer_late(*_: object) -> None:
    raise psycopg.errors.ConnectionTimeout("no answer within 0.8 s")


@pytest.mark.parametrize("is_slow", [False, True])
def test_when_all_slots_of_the_database_are_used_up_who_has_a_connection_goes_on(
    as_ordinary_role: Service, databases: Databases, monkeypatch: pytest.MonkeyPatch, is_slow: bool
) -> None:
    """Also when the first who was to have another one was told so late."""
    service = as_ordinary_role
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 100))

    with ExitStack() as slots:
        take_all_slots(service.engine.url.set(drivername="postgresql"), slots)
        with monkeypatch.context() as patch, ExitStack() as taken:
            if is_slow:
                patch.setattr(watchdog, "within", answer_late)
            taken.enter_context(connection(service.engine))
            with pytest.raises(Unavailable, match="0.8 s" if is_slow else "slots"):
                taken.enter_context(connection(service.engine))
        answers = [service.bus.handle(commands.Allocate(f"o{number}", "LAMP", 1)) for number in range(20)]

    assert answers == ["b1"] * 20


def test_who_loses_one_connection_keeps_the_others(as_ordinary_role: Service, databases: Databases) -> None:
    """When there is no new one to be had, and the server has ended one, as after a time-out."""
    service = as_ordinary_role
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 100))
    with connection(service.engine), connection(service.engine):
        """Two are open from now on."""

    with ExitStack() as slots, databases.admin.connect() as admin:
        url = service.engine.url.set(drivername="postgresql")
        take_all_slots(url, slots)
        query = "SELECT pid FROM pg_stat_activity WHERE usename = 'ordinary' AND application_name = 'allocation'"
        ended, kept = admin.execute(text(query)).scalars()
        admin.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": ended})
        take_all_slots(url, slots)
        answers = [service.bus.handle(commands.Allocate(f"o{number}", "LAMP", 1)) for number in range(20)]

        assert answers == ["b1"] * 20
        assert admin.execute(text(query)).scalars().all() == [kept]


def test_a_role_whose_rights_are_withdrawn_waits_until_it_has_them_again(
    as_ordinary_role: Service, databases: Databases, redis_server: redis.Redis, sql: Callable[..., list[Any]]
) -> None:
    """As to a table that a migration has made. What was sent meanwhile is no dead letter, and takes effect."""
    service = as_ordinary_role
    stop = Event()
    consumer = Thread(target=redis_commands.run, args=(service, stop))
    consumer.start()
    with databases.admin.connect() as connection:
        try:
            assert wait_for(lambda: sql("SELECT 1 FROM stream_positions") == [(1,)], within=20.0), "it does not read"
            connection.execute(text("REVOKE pg_write_all_data FROM ordinary"))
            with pytest.raises(Unavailable, match="grant it"):
                service.bus.handle(commands.CreateBatch("b1", "LAMP", 100))
            assert "does not let us INSERT allocations" in service.readiness()["database"]
            data = {"ref": "b2", "sku": "LAMP", "qty": 10}
            message = {"specversion": "1.0", "id": "m1", "source": "/shop", "data": data}
            redis_server.xadd(COMMANDS, {"command": json.dumps(message | {"type": "allocation.create_batch.v1"})})
            assert wait_for(lambda: redis_server.xpending(COMMANDS, "allocation")["pending"] == 1, within=20.0)
            stop.wait(3.0)  # for longer than a message is tried that meets a fault of the program
            assert sql("SELECT reason FROM dead_letters") == []
            connection.execute(text("GRANT pg_write_all_data TO ordinary"))
            assert wait_for(lambda: sql("SELECT reference FROM batches") == [("b2",)], within=20.0)
        finally:
            stop.set()
            consumer.join()


@pytest.mark.parametrize(
    "missing", [None, "UPDATE batches", "UPDATE orders", "INSERT order_lines", "SELECT inbox", "SELECT holds"]
)
def test_a_role_that_may_do_what_every_command_does_is_ready(
    as_ordinary_role: Service, databases: Databases, sql: Callable[..., list[Any]], missing: str | None
) -> None:
    with databases.admin.connect() as connection:
        connection.execute(text("REVOKE pg_write_all_data, pg_read_all_data FROM ordinary"))
    sql("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO ordinary")
    sql("GRANT UPDATE (version_number, waiting, holds) ON products TO ordinary")
    sql("GRANT UPDATE ON batches, orders TO ordinary")
    if missing:
        sql(f"REVOKE {missing.replace(' ', ' ON ')} FROM ordinary")

    found = as_ordinary_role.readiness()["database"]
    sql("DROP OWNED BY ordinary")

    assert found == (f"the database does not let us {missing}; grant it first" if missing else "ok")


@pytest.mark.parametrize("style", ["German", "SQL, DMY", "Postgres, MDY"])
@pytest.mark.parametrize("by", ["the environment", "the database"])
def test_whatever_dates_look_like_by_default_ours_are_iso(
    settings: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch, style: str, by: str
) -> None:
    if by == "the environment":
        monkeypatch.setenv("PGDATESTYLE", style)
    else:
        name = make_url(settings.database_url).database
        sql(f"ALTER DATABASE {name} SET datestyle = '{style}'")
    with closing(bootstrap(settings)) as service:
        service.bus.handle(commands.CreateBatch("b", "LAMP", 5, date(2031, 2, 1)))
        service.bus.handle(commands.PlaceHold("cart", "LAMP", 1, 600))

        assert service.bus.handle(commands.Allocate("o", "LAMP", 1)) == "b"
        found = service.views.batch("b")
        assert found
        assert found.eta == date(2031, 2, 1)
        assert [event.version for event in service.log.read(EventFilter(stream="LAMP"), None, 9)] == [1, 2, 3]
        with open_snapshot(service.engine) as snapshot:
            assert list(snapshot.differences()) == []


@pytest.mark.parametrize("by", ["the environment", "the database"])
def test_whatever_time_zone_is_there_by_default_moments_are_in_utc(
    settings: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "the environment":
        monkeypatch.setenv("PGTZ", "Pacific/Kiritimati")
    else:
        sql(f"ALTER DATABASE {make_url(settings.database_url).database} SET TimeZone = 'Pacific/Kiritimati'")
    with closing(bootstrap(settings)) as service:
        service.bus.handle(commands.CreateBatch("b", "LAMP", 5))
        service.bus.handle(commands.PlaceOrder("o", (commands.OrderedLine("LAMP", 9),), "backorder"))

        [order], _ = service.views.orders(None, 9)
        [waiting], _ = service.views.backorders(None, None, 9)

    assert [moment and moment.utcoffset() for moment in (order.placed, waiting.since)] == [timedelta()] * 2


def test_a_time_zone_that_the_database_does_not_know_is_no_ready_service(settings: Settings) -> None:
    """Its data of time zones may be older than ours."""
    with closing(bootstrap(settings)) as service:
        assert service.readiness()["database"] == "ok"
        service.views.time_zone = "Europe/Atlantis"

        assert service.readiness() == {
            **service.readiness(),
            "status": "not ready",
            "database": "the database knows no time zone 'Europe/Atlantis'; set another TIME_ZONE",
        }


@pytest.mark.parametrize("table", ["batches", "products", "order_lines"])
def test_rows_that_a_role_may_not_see_are_not_taken_for_rows_that_are_not_there(
    as_ordinary_role: Service, sql: Sql, table: str
) -> None:
    service = as_ordinary_role
    service.bus.handle(commands.CreateBatch("b", "LAMP", 5))
    sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    with pytest.raises(Unavailable, match=f'the database does not let us; .* row-level security .* table "{table}"'):
        service.bus.handle(commands.Allocate("o", "LAMP", 1))
    sql(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")

    assert service.bus.handle(commands.Allocate("o", "LAMP", 1)) == "b"
