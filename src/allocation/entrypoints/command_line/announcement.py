"""Tells a person at the terminal where everything is, once it is ready."""

from __future__ import annotations

import json
import time
import urllib.request
from http.client import HTTPException

import redis
from rich.console import Console

from allocation.adapters import redis_channels
from allocation.config import Settings
from allocation.entrypoints.command_line.addresses import api_url, without_password
from allocation.entrypoints.command_line.output import echo_json
from messaging.redis.client import redis_client


class Announcement:
    def __init__(self, settings: Settings, products: str, *, as_json: bool = False) -> None:
        self._settings = settings
        self._products = products
        self._as_json = as_json
        self._api = api_url(settings)
        self._redis = redis_client(settings.redis_url)
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # not by way of `http_proxy`
        self._begun = time.monotonic()
        self._made = False

    def make_when_ready(self) -> None:
        """Print it the first time that API and consumer are there; until then look, briefly, each time."""
        if not self._made and self._api_is_ready() and self._consumer_listens():
            self._made = True
            self._print()

    def _api_is_ready(self) -> bool:
        try:
            with self._open(f"{self._api}/readyz", timeout=1) as answer:
                return bool(json.load(answer)["status"] == "ready")
        except (OSError, HTTPException, ValueError, LookupError, TypeError):  # the last ones if it is another program
            return False

    def _consumer_listens(self) -> bool:
        try:
            return any(count for _, count in self._redis.pubsub_numsub(redis_channels.CHANGE_BATCH_QUANTITY))
        except redis.RedisError:
            return False

    def _print(self) -> None:
        settings = self._settings
        mails = without_password(settings.smtp_url) or f"{settings.home / 'mail'}/*.eml"
        seconds = round(time.monotonic() - self._begun, 1)
        database, redis_server = without_password(settings.database_url), without_password(settings.redis_url)
        if self._as_json:
            said = {"ready_after_seconds": seconds, "api": self._api, "database": database, "redis": redis_server}
            echo_json(said | {"embedded": self._products, "mails": mails})
            return
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"\n[bold green]Ready[/] after {seconds} s.")
        console.print(f"  API       [bold]{self._api}[/]   (try {self._api}/readyz)")
        console.print(f"  console   [bold]{self._api}/console[/]")
        console.print(f"  database  {database}")
        console.print(f"  redis     {redis_server}")
        if self._products:
            console.print(f"            {self._products}, embedded; passwords in {settings.home / 'servers.json'}")
        console.print(f"  mails     {mails}")
        console.print("Ctrl-C stops everything.\n")
