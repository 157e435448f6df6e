"""Where everything is measured: a durable PostgreSQL and Valkey of our own, a fresh database for each contestant."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

import embedded
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings, postgres_url
from allocation.database import migrations
from allocation.domain.commands import CreateBatch
from allocation.entrypoints.memory import settle_memory
from benchmarks.fill import refresh_statistics
from benchmarks.load import Address
from benchmarks.processes import HOST, answers, free_port, program, wait_for
from messaging.envelope import Request

SKUS = [f"SKU-{number:04}" for number in range(1000)]
PLENTY = 1_000_000_000
WORKERS = 2
THREADS = 8
SERVICE_THREADS = 32
"""As by default: they mostly wait for a transaction that they share."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database, and a part of Redis that belongs to it. `url` is as psycopg and programs want it."""

    url: str
    redis_url: str
    home: Path

    @property
    def settings(self) -> Settings:
        return Settings(database_url=postgres_url(self.url), redis_url=self.redis_url, home=self.home)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.url,
            "REDIS_URL": self.redis_url,
            "ALLOCATION_HOME": str(self.home),
            "SMTP_URL": "",
        }

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)

    def outbox_is_empty(self) -> bool:
        with self.connect() as connection:
            return connection.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is None

    @contextmanager
    def service(self, connections: int = THREADS) -> Iterator[Service]:
        """Wired in this process, as it would be in a worker."""
        service = bootstrap(self.settings, connections=connections)
        settle_memory()
        try:
            yield service
        finally:
            service.close()


@dataclass(slots=True)
class World:
    servers: embedded.Servers
    home: Path
    _numbers: Iterator[int] = field(default_factory=count)
    _templates: set[str] = field(default_factory=set)

    @contextmanager
    def database(self, *, stocked: bool = True) -> Iterator[Database]:
        """A fresh one; `stocked`: with 1,000 SKUs, each with a batch that never runs out."""
        number = next(self._numbers)
        self._admin(f"CREATE DATABASE bench_{number} TEMPLATE {self._template(stocked)}", "CHECKPOINT")
        database = self._named(f"bench_{number}", 1 + number % 15)
        with redis.Redis.from_url(database.redis_url) as client:
            client.flushdb()
        try:
            yield database
        finally:
            self._admin(f"DROP DATABASE bench_{number} WITH (FORCE)")

    @contextmanager
    def service(self, database: Database, workers: int = WORKERS) -> Iterator[tuple[Address, int]]:
        """`allocation serve` as it is shipped: where it listens, and its process."""
        port = free_port()
        arguments = ("serve", "--port", str(port), "--workers", str(workers), "--threads", str(SERVICE_THREADS))
        with program("allocation", *arguments, log=self.log, **database.environment) as process:
            wait_for(lambda: answers(port), "the service is ready")
            yield (HOST, port), process.pid

    @contextmanager
    def bare_endpoint(self, database: Database) -> Iterator[Address]:
        port = free_port()
        arguments = (str(port), str(WORKERS), str(THREADS), database.url)
        with program("benchmarks.bare_http", *arguments, log=self.log):
            wait_for(lambda: answers(port), "the bare endpoint is ready")
            yield HOST, port

    @contextmanager
    def relay(self, database: Database) -> Iterator[None]:
        """`allocation relay`; it works when it has carried out something."""
        with program("allocation", "relay", log=self.log, **database.environment):
            yield

    @property
    def log(self) -> Path:
        return self.home / "programs.log"

    def _template(self, stocked: bool) -> str:
        if "migrated" not in self._templates:
            self._admin("CREATE DATABASE migrated")
            migrations.upgrade(postgres_url(self._named("migrated", 0).url))
            self._templates.add("migrated")
        if stocked and "stocked" not in self._templates:
            self._admin("CREATE DATABASE stocked TEMPLATE migrated")
            stock(self._named("stocked", 0))
            self._templates.add("stocked")
        return "stocked" if stocked else "migrated"

    def _named(self, name: str, part_of_redis: int) -> Database:
        return Database(
            _with_path(self.servers.database_url, name),
            _with_path(self.servers.redis_url, str(part_of_redis)),
            self.home,
        )

    def _admin(self, *statements: str) -> None:
        with psycopg.connect(self.servers.database_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def stock(database: Database, skus: list[str] = SKUS) -> None:
    with database.service() as service:
        service.bus.handle_together([Request(CreateBatch(f"batch-{sku}", sku, PLENTY)) for sku in skus])
    with database.connect() as connection:
        refresh_statistics(connection)


@contextmanager
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="allocation-benchmarks-") as home, embedded.servers(Path(home)) as servers:
        yield World(servers, Path(home))


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))
