"""Asks the servers and the API at once, and waits for none of them longer than a person would."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Generic, TypeVar

import redis
from sqlalchemy import Engine

from allocation.overview.api import Api, api
from allocation.overview.servers import BrokerStatus, DatabaseStatus, broker, database
from messaging.errors import Unavailable

T = TypeVar("T")

PATIENCE = 4.0
"""Seconds; more than it takes to find out that nobody is there, and less than a frozen server would let us wait."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A server that was asked and did not answer, with the reason in a line."""

    reason: str


@dataclass(frozen=True, slots=True)
class Overview:
    """What the servers answer; None for one that was not asked, since nobody knows where it is. The API was asked at
    `api_url`."""

    database: DatabaseStatus | Unreachable | None
    broker: BrokerStatus | Unreachable | None
    api: Api | Unreachable
    api_url: str


def why(silent: Unreachable | None) -> str:
    """Why there is no answer."""
    return silent.reason if silent else "not running"


def look(
    engine: Engine | None,
    client: redis.Redis | None,
    api_url: str,
    patience: float = PATIENCE,
    time_zone: str = "UTC",
) -> Overview:
    """None for a server of which it is not known where it is. Both are closed when they have answered."""
    give_up = time.monotonic() + patience
    of_database = _Question(lambda: _ask_database(engine, time_zone)) if engine else None
    of_broker = _Question(lambda: _ask_broker(client)) if client else None
    of_api = _Question(lambda: api(api_url))
    return Overview(
        database=of_database.answer(give_up) if of_database else None,
        broker=of_broker.answer(give_up) if of_broker else None,
        api=of_api.answer(give_up),
        api_url=api_url,
    )


def _ask_database(engine: Engine, time_zone: str) -> DatabaseStatus:
    try:
        return database(engine, time_zone)
    finally:
        engine.dispose()


def _ask_broker(client: redis.Redis) -> BrokerStatus:
    try:
        return broker(client)
    finally:
        client.close()


class _Question(Generic[T]):
    """Asked at once by a thread of its own, which is left behind if the server takes the question and says nothing."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._answer: T | Unreachable = Unreachable("does not answer in time")
        self._fault: Exception | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def answer(self, give_up: float) -> T | Unreachable:
        self._thread.join(max(0.0, give_up - time.monotonic()))
        if self._fault:
            raise self._fault
        return self._answer

    def _run(self) -> None:
        try:
            self._answer = self._ask()
        except Unavailable as error:
            self._answer = Unreachable(str(error).splitlines()[0])
        except Exception as error:  # noqa: BLE001 - raised where the answer is wanted
            self._fault = error
