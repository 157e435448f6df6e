"""Databases as they are found: in another encoding, with other defaults, with all their slots in use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import Barrier

import psycopg
import pytest
from sqlalchemy import URL, text
from tests.integration.databases import Databases

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.database import migrations
from allocation.database.engine import database_engine
from allocation.database.schema import require_current_schema
from allocation.domain import commands
from messaging.errors import Unavailable


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
        for refuse in (partial(migrations.upgrade, url), partial(require_current_schema, engine)):
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


def test_when_all_slots_of_the_database_are_used_up_who_has_a_connection_goes_on(
    as_ordinary_role: Service, databases: Databases
) -> None:
    service = as_ordinary_role
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 100))
    both = Barrier(2)

    def ask(number: int) -> bool:
        both.wait(20)
        try:
            return service.bus.handle(commands.ChangeBatchQuantity("b1", 200 + number)) is None
        except Unavailable:
            return False

    with ExitStack() as slots:
        take_all_slots(service.engine.url.set(drivername="postgresql"), slots)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(ask, range(2)))
        answers = [service.bus.handle(commands.Allocate(f"o{number}", "LAMP", 1)) for number in range(20)]

    assert answers == ["b1"] * 20
