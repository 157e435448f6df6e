"""Asks both servers at once, and waits for neither longer than a person would."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Generic, TypeVar

import redis
from sqlalchemy import Engine

from allocation.overview.servers import Broker, Database, broker, database
from messaging.errors import Unavailable

T = TypeVar("T")

NOT_RUNNING = "not running"

PATIENCE = 4.0
"""Seconds; more than it takes to find out that nobody is there, and less than a frozen server would let us wait."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Of a server that does not answer there is the reason instead, in a line."""

    database: Database | str
    broker: Broker | str


def look(engine: Engine | None, client: redis.Redis | None, patience: float = PATIENCE) -> Overview:
    """None for a server of which it is not known where it is. Both are closed when they have answered."""
    give_up = time.monotonic() + patience
    asked_database = _Question(
        partial(_closing, engine.dispose, partial(database, engine)) if engine else None, give_up
    )
    asked_broker = _Question(partial(_closing, client.close, partial(broker, client)) if client else None, give_up)
    return Overview(asked_database.answer(), asked_broker.answer())


def _closing(close: Callable[[], None], ask: Callable[[], T]) -> T:
    try:
        return ask()
    finally:
        close()


class _Question(Generic[T]):
    """Asked by a thread of its own, which is left behind if the server takes the question and says nothing."""

    def __init__(self, ask: Callable[[], T] | None, give_up: float) -> None:
        self._ask = ask
        self._give_up = give_up
        self._answer: T | str = NOT_RUNNING
        self._fault: Exception | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def answer(self) -> T | str:
        self._thread.join(max(0.0, self._give_up - time.monotonic()))
        if self._thread.is_alive():
            return "does not answer in time"
        if self._fault:
            raise self._fault
        return self._answer

    def _run(self) -> None:
        if self._ask:
            try:
                self._answer = self._ask()
            except Unavailable as error:
                self._answer = str(error).splitlines()[0]
            except Exception as error:  # noqa: BLE001 - raised where the answer is wanted
                self._fault = error
