"""Servers for the service to live on, each with what can befall them. Start them from the main thread, which stays."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from random import Random

import psycopg
import redis
from tests.chaos.postgres_pair import PostgresPair
from tests.chaos.sentinels import Sentinels

from embedded.postgres import Postgres
from embedded.valkey import Redis

Fault = Callable[[Random], float]
"""Does it, and returns the moment from which on the service should recover."""


class World(ABC):
    """`database_url` and `redis_url` are the service's; the harness has ways in of its own, around any proxy."""

    name: str
    database_url: str
    redis_url: str
    owner_url = ""
    """Of the database, for who migrates, if that is another than `database_url`."""
    api = ""
    """Its address, once the service is there."""
    copies = 1
    """Of relay and consumer."""
    goes_on: Collection[str] = ()
    """Faults with which the service goes on as if nothing had happened."""
    without = ""
    """What could not be tried here, and why."""
    replicas = 0
    """Of Redis: what it has acknowledged can be lost unless so many have it too."""

    @property
    @abstractmethod
    def versions(self) -> str: ...

    @abstractmethod
    def faults(self) -> Mapping[str, Fault]: ...

    @abstractmethod
    def database(self) -> psycopg.Connection: ...

    @abstractmethod
    def redis(self) -> redis.Redis: ...

    @abstractmethod
    def close(self) -> None: ...

    def heal(self) -> None:  # noqa: B027 - most have nothing to do
        """After a round: make the next fault possible."""


class ReplicatedPostgres(World):
    """A primary with a synchronous standby; one Valkey."""

    name = "PostgreSQL with a synchronous standby"

    def __init__(self, folder: Path) -> None:
        self._redis = Redis(folder / "redis")
        self._redis.start()
        self._pair = PostgresPair(folder)
        self.database_url = self._pair.url
        self.redis_url = self._redis.url

    @property
    def versions(self) -> str:
        return f"{self._pair.version}, {self._redis.version}"

    def faults(self) -> Mapping[str, Fault]:
        return {"postgres: primary kill -9, standby promoted": self._fail_over}

    def database(self) -> psycopg.Connection:
        return psycopg.connect(self._pair.url, autocommit=True, connect_timeout=2)

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self._redis.url, socket_timeout=5.0)

    def heal(self) -> None:
        self._pair.add_standby()

    def close(self) -> None:
        self._redis.stop()
        self._pair.stop()

    def _fail_over(self, random: Random) -> float:
        self._pair.kill_primary()
        begun = time.time()
        time.sleep(random.uniform(0, 0.5))
        self._pair.promote()
        return begun


class SentinelRedis(World):
    """A Valkey with two replicas and three sentinels; one PostgreSQL."""

    name = "Valkey with Sentinel"
    replicas = 1

    def __init__(self, folder: Path) -> None:
        self._postgres = Postgres(folder / "postgres")
        self._postgres.start()
        self._sentinels = Sentinels(folder)
        self.database_url = self._postgres.url
        self.redis_url = self._sentinels.url

    @property
    def versions(self) -> str:
        return f"{self._postgres.version}, {self._sentinels.version}"

    def faults(self) -> Mapping[str, Fault]:
        return {"redis: primary kill -9, replica promoted by Sentinel": self._fail_over}

    def database(self) -> psycopg.Connection:
        return psycopg.connect(self._postgres.url, autocommit=True, connect_timeout=2)

    def redis(self) -> redis.Redis:
        return self._sentinels.client()

    def heal(self) -> None:
        self._sentinels.restart_dead()

    def close(self) -> None:
        self._sentinels.stop()
        self._postgres.stop()

    def _fail_over(self, random: Random) -> float:
        return self._sentinels.kill_primary()
