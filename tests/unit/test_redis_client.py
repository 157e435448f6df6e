"""How Redis is reached, by its URL."""

from __future__ import annotations

import pytest
from redis.sentinel import SentinelConnectionPool

from allocation.config import SettingError, Settings
from messaging.redis.client import redis_client

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
