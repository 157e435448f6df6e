"""The servers a command runs on: those that the settings name, or embedded ones for as long as the command lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import embedded
from allocation.config import Settings, postgres_url


@dataclass(frozen=True, slots=True)
class BackingServices:
    """`settings` with every URL filled in; `products` names what is embedded; `look_after` brings it back if killed."""

    settings: Settings
    products: str
    look_after: Callable[[], object]


@contextmanager
def backing_services(settings: Settings, *, with_redis: bool = True) -> Iterator[BackingServices]:
    """Raises EmbeddedServersError."""
    if settings.database_url and (settings.redis_url or not with_redis):
        yield BackingServices(settings, products="", look_after=lambda: None)
        return
    with embedded.servers(settings.home) as servers:
        filled = replace(
            settings,
            database_url=settings.database_url or postgres_url(servers.database_url),
            redis_url=settings.redis_url or servers.redis_url,
        )
        products = f"{servers.postgres}, {servers.redis}"
        yield BackingServices(filled, products, lambda: embedded.ensure_running(settings.home))


def running_services(settings: Settings) -> Settings:
    """With the URLs of embedded servers where they run already, for who only looks: nothing is started.

    Raises EmbeddedServersError.
    """
    if settings.database_url and settings.redis_url:
        return settings
    running = embedded.already_running(settings.home)
    return replace(
        settings,
        database_url=settings.database_url or (postgres_url(running.database_url) if running else ""),
        redis_url=settings.redis_url or (running.redis_url if running else ""),
    )
