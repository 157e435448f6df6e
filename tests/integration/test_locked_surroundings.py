"""PostgreSQL and Redis behind TLS, and with users that may do no more than they need: all of it by URL."""

from __future__ import annotations

import json
import logging
import shlex
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest
import redis
import trustme
from sqlalchemy import text
from tests.integration.conftest import Sql
from tests.integration.tls import TlsProxy

from allocation.adapters.redis_channels import CHANGE_BATCH_QUANTITY, COMMANDS, EVENTS
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings, postgres_url
from allocation.database.engine import database_engine
from allocation.domain import commands
from allocation.entrypoints import outbox_relay, redis_eventconsumer
from embedded.waiting import wait_for
from messaging.errors import Unavailable
from messaging.redis.client import redis_client
from messaging.sql.connections import connection

Locked = Callable[[str], TlsProxy]


@pytest.fixture
def behind_tls(tmp_path: Path) -> Iterator[Locked]:
    proxies: list[TlsProxy] = []

    def start(url: str) -> TlsProxy:
        proxies.append(TlsProxy(url, tmp_path, postgres=not url.startswith("redis")))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """An authority that has nothing to do with the server's certificate."""
    path = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def test_postgresql_is_reached_by_tls_and_only_if_its_certificate_is_good(
    behind_tls: Locked, database_url: str, stranger: Path
) -> None:
    proxy = behind_tls(database_url)

    def ask(authority: Path, host: str = "127.0.0.1") -> object:
        url = proxy.url.replace("127.0.0.1", host)
        engine = database_engine(postgres_url(f"{url}?sslmode=verify-full&sslrootcert={authority}"), connections=1)
        try:
            with connection(engine) as open_connection:
                return open_connection.scalar(text("SELECT 1"))
        finally:
            engine.dispose()

    assert ask(proxy.authority) == 1
    assert proxy.versions == ["TLSv1.3"]
    with pytest.raises(Unavailable, match="certificate verify failed"):
        ask(stranger)
    with pytest.raises(Unavailable, match='does not match host name "localhost"'):
        ask(proxy.authority, host="localhost")


def test_a_postgresql_without_tls_is_refused_where_tls_is_required(database_url: str) -> None:
    engine = database_engine(postgres_url(f"{database_url}?sslmode=require"), connections=1)
    try:
        with pytest.raises(Unavailable, match="server does not support SSL"), connection(engine):
            pass
    finally:
        engine.dispose()


def test_redis_is_reached_by_tls_and_only_if_its_certificate_is_good(
    behind_tls: Locked, redis_url: str, stranger: Path
) -> None:
    proxy = behind_tls(redis_url)
    url = proxy.url.replace("redis://", "rediss://")

    with redis_client(f"{url}?ssl_ca_certs={proxy.authority}") as client:
        assert client.ping()
    assert proxy.versions == ["TLSv1.3"]
    with (
        redis_client(f"{url}?ssl_ca_certs={stranger}") as client,
        pytest.raises(redis.ConnectionError, match="certificate verify failed"),
    ):
        client.ping()


RIGHTS = (
    "~allocation.*",
    "~{allocation.events}.*",
    "~*.replies",
    "&line_allocated",
    "&change_batch_quantity*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "+info",
)
"""As docs/operations.md has them."""


def test_the_rights_that_are_enough_are_those_in_the_docs() -> None:
    operations = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
    [command] = [line for line in operations.splitlines() if "ACL SETUSER allocation " in line]

    assert shlex.split(command.partition("SETUSER ")[2]) == ["allocation", "on", ">password", *RIGHTS]


@pytest.fixture
def least_redis_url(redis_url: str) -> Iterator[str]:
    """Redis as a user of its own, who may do what the service needs."""
    where = urlsplit(redis_url)
    with redis_client(redis_url) as admin:
        admin.execute_command("ACL", "SETUSER", "allocation", "reset", "on", ">its-password", *RIGHTS)
        yield where._replace(netloc=f"allocation:its-password@{where.hostname}:{where.port}").geturl()
        admin.execute_command("ACL", "DELUSER", "allocation")


def test_a_redis_user_with_few_rights_is_enough(
    settings: Settings, least_redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = bootstrap(replace(settings, redis_url=least_redis_url))
    try:
        with pytest.raises(redis.exceptions.NoPermissionError):
            service.redis.get("somebody else's")
        with pytest.raises(redis.exceptions.NoPermissionError):
            service.redis.flushall()
        goes_both_ways(service, caplog)
    finally:
        service.close()


def goes_both_ways(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """With a relay and a consumer at work: what happens is told, and what is said is heard on channel and stream."""
    stop = Event()
    parts = [Thread(target=part.run, args=(service, stop)) for part in (outbox_relay, redis_eventconsumer)]
    for part in parts:
        part.start()
    try:
        service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
        change = b'{"batchref": "b1", "qty": 5}'
        assert wait_for(lambda: service.redis.publish(CHANGE_BATCH_QUANTITY, change), within=10)
        command = {"specversion": "1.0", "id": "1", "source": "/test", "type": "allocation.create_batch.v1"}
        data = {"ref": "b2", "sku": "LAMP", "qty": 3, "eta": None}
        service.redis.xadd(COMMANDS, {"command": json.dumps(command | {"data": data}), "replyto": "test.replies"})

        def all_is_told() -> bool:
            with connection(service.engine) as open_connection:
                held = open_connection.scalar(text("SELECT sum(purchased_quantity) FROM batches"))
            return held == 5 + 3 and service.redis.xlen(EVENTS) == 3

        assert wait_for(all_is_told, within=10)
    finally:
        stop.set()
        for part in parts:
            part.join()
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def least_database_url(database_url: str, sql: Sql) -> Iterator[str]:
    """The API's and the relay's role: it may read and write rows, and change no table."""
    sql("CREATE ROLE least LOGIN PASSWORD 'its-password'")
    sql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO least")
    where = urlsplit(database_url)
    yield where._replace(netloc=f"least:its-password@{where.hostname}:{where.port}").geturl()
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'least'")
    sql("DROP OWNED BY least")
    sql("DROP ROLE least")


def test_a_database_role_that_can_change_no_table_is_enough(
    settings: Settings, least_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = bootstrap(replace(settings, database_url=least_database_url))
    try:
        assert service.readiness()["status"] == "ready"
        goes_both_ways(service, caplog)
        with (
            pytest.raises(Exception, match="must be owner of table event_log"),
            connection(service.engine) as open_connection,
        ):
            open_connection.execute(text("DROP TABLE event_log"))
    finally:
        service.close()


def test_the_library_checks_certificates_unless_told_otherwise() -> None:
    """`rediss://` alone is enough: no parameter is needed to be safe."""
    with redis_client("rediss://127.0.0.1:1/0") as client:
        connection_ = client.connection_pool.make_connection()
    assert connection_.cert_reqs == ssl.CERT_REQUIRED
    assert connection_.check_hostname
