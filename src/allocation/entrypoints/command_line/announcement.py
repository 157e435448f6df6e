"""Tells a person at the terminal where everything is, once it is ready."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import redis
from rich.console import Console

from allocation.adapters import redis_channels
from allocation.config import Settings
from allocation.entrypoints.command_line.addresses import api_url, without_password
from allocation.entrypoints.command_line.output import echo_json, to_nowhere
from allocation.overview.api import api
from messaging.errors import Unavailable
from messaging.redis.client import redis_client

log = logging.getLogger(__name__)

_FOR_REDIS = 5.0
"""Seconds that the API may be degraded before that is said, and no longer waited for."""


class Announcement:
    def __init__(
        self,
        settings: Settings,
        products: str,
        *,
        as_json: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._products = products
        self._as_json = as_json
        self._api = api_url(settings)
        self._redis = redis_client(settings.redis_url)
        self._clock = clock
        self._begun = clock()
        self._degraded_since: float | None = None
        self._made = False

    def make_when_ready(self) -> None:
        """Print it the first time that API and consumer are there, or that the API has waited for Redis for long; until
        then look, briefly, each time."""
        if self._made:
            return
        status = self._status_of_api()
        if status != "degraded":
            self._degraded_since = None
        elif self._degraded_since is None:
            self._degraded_since = self._clock()
        if status == "ready" and self._consumer_listens():
            self._print(status)
        elif self._degraded_since is not None and self._clock() - self._degraded_since >= _FOR_REDIS:
            self._print("degraded")

    def _status_of_api(self) -> str | None:
        try:
            return api(self._api, patience=1.0).status
        except Unavailable:
            return None

    def _consumer_listens(self) -> bool:
        try:
            return any(count for _, count in self._redis.pubsub_numsub(redis_channels.CHANGE_BATCH_QUANTITY))
        except redis.RedisError:
            return False

    def _print(self, status: str) -> None:
        """Who serves goes on where that can't be printed: on a full disk, or on a terminal that has gone."""
        self._made = True
        try:
            self._write(status)
            sys.stdout.flush()
        except OSError as error:
            log.warning("can't print that it is ready", extra={"error": str(error)})
            to_nowhere(sys.stdout.fileno())

    def _write(self, status: str) -> None:
        settings = self._settings
        mails = without_password(settings.smtp_url) or f"{settings.home / 'mail'}/*.eml"
        seconds = round(self._clock() - self._begun, 1)
        database, redis_server = without_password(settings.database_url), without_password(settings.redis_url)
        if self._as_json:
            ready = {"status": status, "ready_after_seconds": seconds, "api": self._api, "console": self._console}
            echo_json(ready | {"database": database, "redis": redis_server, "embedded": self._products, "mails": mails})
            return
        console = Console(highlight=False, soft_wrap=True)
        if status == "ready":
            console.print(f"\n[bold green]Ready[/] after {seconds} s.")
        else:
            console.print(
                f"\n[bold yellow]Ready[/], but Redis at {redis_server} does not answer: orders are taken, events wait."
            )
        console.print(f"  API       [bold]{self._api}[/]   (try {self._api}/readyz)")
        console.print(f"  console   [bold]{self._console}[/]")
        console.print(f"  database  {database}")
        console.print(f"  redis     {redis_server}")
        if self._products:
            console.print(f"            {self._products}, embedded; passwords in {settings.home / 'servers.json'}")
        console.print(f"  mails     {mails}")
        console.print("Ctrl-C stops everything.\n")

    @property
    def _console(self) -> str:
        return f"{self._api}/console"
