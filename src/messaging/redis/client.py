"""Clients that fail within seconds rather than hang, and faults in the machinery's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from messaging.errors import BrokerUnavailable

_SENTINEL = "redis+sentinel"

# Retrying is left to those who know what is safe to repeat. The driver's own would wait for seconds in between.
_NO_RETRY: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}

_LIMITS: dict[str, Any] = {
    **_NO_RETRY,
    "decode_responses": False,  # a channel may carry bytes that are no text, and must not break on them
    "socket_connect_timeout": 2.0,
    "socket_timeout": 5.0,
    "socket_keepalive": True,
    "health_check_interval": 15,
}


_PROBING: dict[str, Any] = {"socket_connect_timeout": 0.3, "socket_timeout": 0.3}


def redis_client(url: str) -> redis.Redis:
    """A client for `redis://`, `rediss://`, or the primary that sentinels name:
    `redis+sentinel://[:password@]host:port,host:port/service-name/db`."""
    return _client(url, _LIMITS, of_a_sentinel={"socket_connect_timeout": 0.5, "socket_timeout": 0.5})


def redis_probe(url: str) -> redis.Redis:
    """A client to ask whether Redis is there, for those who answer soon: three silent sentinels cost it a second."""
    return _client(url, _LIMITS | _PROBING, of_a_sentinel=_PROBING)


def _client(url: str, limits: dict[str, Any], of_a_sentinel: dict[str, Any]) -> redis.Redis:
    if url.startswith(f"{_SENTINEL}://"):
        return _of_sentinels(url, limits, of_a_sentinel | _NO_RETRY)
    return redis.Redis.from_url(url, **limits)


def _of_sentinels(url: str, limits: dict[str, Any], of_a_sentinel: dict[str, Any]) -> redis.Redis:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    name, _, number = parts.path.strip("/").partition("/")
    sentinels = [(host, int(port or 26379)) for host, _, port in (one.partition(":") for one in hosts.split(","))]
    known = {"username": unquote(user) or None, "password": unquote(password) or None}
    sentinel = Sentinel(sentinels, sentinel_kwargs=of_a_sentinel, **limits)  # type: ignore[no-untyped-call]
    client: redis.Redis = sentinel.master_for(name, db=int(number or 0), **known)  # type: ignore[no-untyped-call]
    return client


def run_of(client: redis.Redis, server: Mapping[str, Any] | None = None) -> str | None:
    """A name for this database of this server, as long as it runs: who finds the same elsewhere speaks to the same.

    None if it does not tell us. `server` is what it says of itself, if that has been asked. Raises RedisError.
    """
    try:
        run = (client.info("server") if server is None else server).get("run_id")
    except redis.ResponseError:
        return None
    return f"{str(run)[:12]}/{client.get_connection_kwargs().get('db') or 0}" if run else None


@contextmanager
def redis_faults() -> Iterator[None]:
    """Raises BrokerUnavailable for whatever Redis or the way to it does wrong."""
    try:
        yield
    except redis.RedisError as error:
        raise BrokerUnavailable(f"redis: {error}") from error
