"""The service as any client sees it: over HTTP and Redis, with nothing of ours in between."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import click
import redis

from allocation.overview.api import AnotherProgram, Api, api
from messaging.errors import Unavailable
from messaging.redis.client import redis_faults, run_of

_SCOPE = re.compile(r'scope="([^"]+)"')
_TRIES = 5
_PATIENCE = 10.0


class DemoClient:
    """Whatever is in the way is a ClickException of one line that says what to do about it."""

    def __init__(self, url: str, broker: redis.Redis, api_key: str = "") -> None:
        self.url = url.rstrip("/")
        self.broker = broker
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # not by way of `http_proxy`

    def require_service(self) -> Api:
        try:
            found = api(self.url, patience=_PATIENCE)
        except AnotherProgram:
            raise click.ClickException(
                f"what answers at {self.url} is no allocation service: name it with --url or PORT"
            ) from None
        except Unavailable:
            raise click.ClickException(f"no service answers at {self.url}: start one with `make run`") from None
        if found.status == "not ready":
            raise click.ClickException(f"the service at {self.url} is not ready: see {self.url}/readyz")
        return found

    def require_same_redis(self, found: Api) -> None:
        """Before anything is written: what is asked of one service would be published by another, or never.

        Raises Unavailable.
        """
        with redis_faults():
            ours = run_of(self.broker)
        if found.speaks_to_another(ours):
            raise click.ClickException(
                f"the service at {self.url} speaks to another Redis than the one we listen to: "
                "name ours with --url or PORT, or its Redis in REDIS_URL"
            )

    def add_batch(self, ref: str, sku: str, qty: int, eta: str | None = None) -> None:
        self._ask("/add_batch", {"ref": ref, "sku": sku, "qty": qty, "eta": eta})

    def allocate(self, orderid: str, sku: str, qty: int) -> str | None:
        """The batch that the line is promised from; None when out of stock."""
        answer = json.loads(self._ask("/allocate", {"orderid": orderid, "sku": sku, "qty": qty}))
        batchref: str | None = answer["batchref"]
        return batchref

    def post(self, *path: str, **body: object) -> None:
        """To what has this path under /v1."""
        self._ask("/".join(["/v1", *(quote(part, safe="") for part in path)]), body)

    def batches_of(self, orderid: str) -> list[str]:
        """Where the order's lines are."""
        try:
            found = self._ask(f"/allocations/{quote(orderid, safe='')}")
        except _NotFound:
            return []
        return [line["batchref"] for line in json.loads(found)]

    def say(self, channel: str, message: Mapping[str, object]) -> None:
        """Over pub/sub, which forgets what nobody hears: so again, while one consumer takes over from another."""
        give_up = time.monotonic() + _PATIENCE
        try:
            while not self.broker.publish(channel, json.dumps(message)):
                if time.monotonic() > give_up:
                    raise click.ClickException(f"nobody listens to {channel}: start `allocation consume`")
                time.sleep(0.1)
        except redis.RedisError as error:
            raise click.ClickException(f"redis: {error}; see `allocation status`") from error

    def _ask(self, path: str, body: Mapping[str, object] | None = None) -> bytes:
        """POST, if there is a body. What is refused for a moment is asked for again; all that is asked is safe to."""
        request = urllib.request.Request(  # noqa: S310 - the URL is the user's own
            self.url + path, None if body is None else json.dumps(body).encode(), self._headers
        )
        for left in reversed(range(_TRIES)):
            try:
                with self._open(request, timeout=_PATIENCE) as answer:
                    return bytes(answer.read())
            except HTTPError as error:
                with error:
                    if error.code not in (429, 503) or not left:
                        raise self._refusal(error, path) from error
                time.sleep(_seconds(error.headers.get("Retry-After")))
            except (OSError, HTTPException) as error:
                raise click.ClickException(f"the service at {self.url} does not answer any more: {error}") from error
        raise AssertionError("the last try returns or raises")

    def _refusal(self, error: HTTPError, path: str) -> click.ClickException:
        if error.code == 401 and "Authorization" in self._headers:
            return click.ClickException("the API key in ALLOCATION_API_KEY is not known: see `allocation keys list`")
        if error.code == 401:
            return click.ClickException("the service requires an API key: put one into ALLOCATION_API_KEY")
        if error.code == 403:
            missing = _SCOPE.search(error.headers.get("WWW-Authenticate", ""))
            lacks = f"lacks the scope {missing[1]}" if missing else f"may not use {path}"
            return click.ClickException(f"the API key in ALLOCATION_API_KEY {lacks}")
        body: Any = error.read().decode(errors="replace")
        if error.code == 404 and path.startswith("/allocations/"):
            return _NotFound(body)
        return click.ClickException(f"{path} was answered with {error.code}: {' '.join(body.split())[:200]}")


class _NotFound(click.ClickException):
    pass


def _seconds(retry_after: str | None) -> float:
    return min(float(retry_after), 5.0) if retry_after and retry_after.isdigit() else 1.0
