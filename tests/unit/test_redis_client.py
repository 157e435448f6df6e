"""How Redis is reached, by its URL."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import redis
from redis.sentinel import SentinelConnectionPool

from allocation.config import SettingError, Settings
from messaging.redis.client import redis_client, redis_probe

SENTINELS = "redis+sentinel://:s%40cret@one:26379,two:26380/stock/2"


def test_sentinels_are_asked_for_the_primary() -> None:
    pool = redis_client(SENTINELS).connection_pool

    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "stock"
    known = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in known] == [("one", 26379), ("two", 26380)]
    assert all(one["socket_timeout"] < 1 for one in known), "one that hangs must not hold up the next"
    assert (pool.connection_kwargs["db"], pool.connection_kwargs["password"]) == (2, "s@cret")


def test_a_client_of_sentinels_does_not_wait_for_ever_either() -> None:
    limits = redis_client(SENTINELS).connection_pool.connection_kwargs

    assert 0 < limits["socket_connect_timeout"] <= 5
    assert 0 < limits["socket_timeout"] <= 5


@pytest.mark.parametrize("build", [redis_client, redis_probe])
def test_sentinels_that_are_away_are_each_asked_once(build: Callable[[str], redis.Redis]) -> None:
    """The driver's ten tries take ten seconds and more, in which nothing is told, and no probe answered."""
    with build("redis+sentinel://127.0.0.1:1,127.0.0.1:1,127.0.0.1:1/stock") as client:
        begun = time.monotonic()
        with pytest.raises(redis.ConnectionError):
            client.ping()

    assert time.monotonic() - begun < 0.5


@pytest.mark.parametrize("url", [SENTINELS, "redis+sentinel://one/stock", "rediss://:x@host:1/0"])
def test_settings_take_it(url: str) -> None:
    assert Settings.from_env({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one:26379",
        "redis+sentinel:///stock",
        "redis+sentinel://one:x/stock",
        "redis+sentinel://a@b@c/stock",
    ],
)
def test_settings_refuse_what_names_no_service_or_host(url: str) -> None:
    with pytest.raises(SettingError, match="REDIS_URL can't be read"):
        Settings.from_env({"REDIS_URL": url})
