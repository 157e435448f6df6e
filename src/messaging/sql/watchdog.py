"""Keeps callers from hanging on a database that does not answer: each gets an error within a second and a half.

A server that is gone may say nothing at all, and then no time-out of its own helps. So a thread looks at the
connections in use. When one has been out for long it asks the database anew, and when that is not answered either, all
that hang are cut: their threads wake up with a lost connection. While the database is away nobody but this thread
tries to connect. Callers wait for it for a second, as long as a restart may take, and after that are refused at once.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Event, Lock, Thread
from typing import Any

import psycopg
from psycopg.errors import ConnectionTimeout
from sqlalchemy import Engine, event

from messaging.errors import Unavailable

log = logging.getLogger(__name__)

Driver = psycopg.Connection[Any]

OPTION = "watch"
"""The engine's execution option that holds its watch."""

_SLICES = 25
"""More of them than the driver needs to speak to the server once."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds."""

    outage: float = 1.0  # callers wait so long for a database that went away
    connect: float = 0.8
    suspect: float = 0.4  # a connection that is out for longer makes the thread ask whether the database answers
    probe: float = 0.5
    longest: float = 1.4  # no connection is out for longer, whatever the database says
    look: float = 0.05


class Watchdog:
    """Over one engine. Its thread starts with the first connection, so after a fork, and ends with `dispose`."""

    def __init__(self, timeouts: Timeouts | None = None) -> None:
        self._timeouts = timeouts or Timeouts()
        self._out: dict[int, float] = {}  # since when, by the driver's identity
        self._lines: dict[int, socket.socket] = {}
        self._silent: set[int] = set()  # those that were cut
        self._back = Condition()
        self._away: tuple[float, str] | None = None  # since when, and how it was noticed
        self._connect: Callable[[], Driver] | None = None
        self._answered = 0.0  # when the server last answered, or did not
        self._turn = 0  # of several hosts, which one to try first
        self._start = Lock()
        self._stop: Event | None = None
        self._first = Lock()
        self._has_first = False
        self._first_was_lost = 0.0  # after a silence

    def over(self, engine: Engine) -> Engine:
        """The same engine, watched."""
        engine.update_execution_options(**{OPTION: self})
        event.listen(engine, "connect", self._on_connect, insert=True)  # before others, who may speak to the server
        event.listen(engine, "checkout", self._on_checkout, insert=True)
        event.listen(engine, "checkin", self._on_checkin)
        event.listen(engine, "close", self._on_close)
        event.listen(engine, "do_connect", self._do_connect)
        event.listen(engine, "engine_disposed", self._end)
        return engine

    def require_available(self) -> None:
        """Returns at once when the database is there, or when it is back in time. Raises Unavailable."""
        if self._away:
            with self._back:
                if self._away:
                    since, _ = self._away
                    patience = since + self._timeouts.outage - time.monotonic()
                    self._back.wait_for(lambda: not self._away, max(0.0, patience))
                if self._away:
                    raise Unavailable(f"the database is away: {self._away[1]}")

    def require_first(self, make: Callable[[], object]) -> None:
        """Have the first connection made by one caller, and the others wait for a moment. SQLAlchemy asks it what
        server this is, and would have them wait for that one after the other, each with a connection of its own."""
        if self._has_first:
            return
        if not self._first.acquire(timeout=self._timeouts.outage):
            raise Unavailable("the database has not answered yet")
        try:
            begun = time.monotonic()
            if begun - self._first_was_lost < self._timeouts.outage:
                raise Unavailable("the database has not answered another caller")
            if not self._has_first:
                make()
                self._has_first = True
        finally:
            if not self._has_first and time.monotonic() - begun > self._timeouts.suspect:
                self._first_was_lost = time.monotonic()
            self._first.release()

    def has_cut(self, driver: Driver) -> bool:
        """Whether this connection was silent, as others may be that are as old."""
        return id(driver) in self._silent

    # --- what the pool does ----------------------------------------------------

    def _do_connect(self, dialect: Any, _: object, args: list[Any], given: dict[str, Any]) -> Driver:
        arguments = dict(given)
        self._connect = lambda: dialect.connect(*args, **turned(arguments, self._turn))
        self._begin()
        begun = time.monotonic()
        try:
            return within(self._timeouts.connect, self._connect)
        except psycopg.Error as error:
            self._turn += 1
            if self._is_away(error):
                self._note_away(begun, " ".join(str(error).split()))
            raise

    def _is_away(self, error: psycopg.Error) -> bool:
        """Whether the server was silent, or has kept none of our connections. Else those that we have are good: it may
        have refused another one for lack of slots, which no code says, and the text is in the server's language."""
        if isinstance(error, ConnectionTimeout):
            return True
        return not any(is_connected(line) for line in self._lines.copy().values())

    def _on_connect(self, driver: Driver, _: object) -> None:
        one = id(driver)
        self._lines[one] = socket.socket(fileno=os.dup(driver.fileno()))  # ours, whatever becomes of the driver's
        self._out[one] = time.monotonic()
        weakref.finalize(driver, self._forget, one).atexit = False  # one that another listener did not like

    def _on_checkout(self, driver: Driver, *_: object) -> None:
        self._out[id(driver)] = time.monotonic()

    def _on_checkin(self, driver: Driver | None, _: object) -> None:
        self._out.pop(id(driver), None)

    def _on_close(self, driver: Driver, _: object) -> None:
        self._forget(id(driver))

    def _forget(self, one: int) -> None:
        self._out.pop(one, None)
        self._silent.discard(one)
        if line := self._lines.pop(one, None):
            line.close()

    # --- the thread --------------------------------------------------------------

    def _begin(self) -> None:
        with self._start:
            if self._stop is None:
                self._stop = Event()
                Thread(target=self._look_until, args=(self._stop,), name="database-watch", daemon=True).start()

    def _end(self, _: Engine) -> None:
        with self._start:
            if self._stop:
                self._stop.set()
            self._stop = None
        self._note_back()

    def _look_until(self, stop: Event) -> None:
        while not stop.wait(self._timeouts.look):
            try:
                self._look(stop)
            except Exception:  # such as no room for another thread; nobody else would ever let callers in again
                log.exception("could not look after the database, and goes on")

    def _look(self, stop: Event) -> None:
        now = time.monotonic()
        if self._away:
            if (error := self._probe()) and self._is_away(error):
                self._abort(older_than=self._timeouts.suspect)
            elif not stop.is_set():
                self._note_back()
            return
        oldest = min(self._out.copy().values(), default=now)
        if now - oldest > self._timeouts.suspect and now - self._answered > 1.0:
            if isinstance(error := self._probe(), ConnectionTimeout):
                self._note_away(oldest, str(error))
                self._abort(older_than=0.0)
            self._answered = time.monotonic()
        self._abort(older_than=self._timeouts.longest)

    def _probe(self) -> psycopg.Error | None:
        assert self._connect, "a connection was tried before"
        try:
            within(self._timeouts.probe, self._connect).close()
        except psycopg.Error as error:
            self._turn += 1
            return error
        return None

    def _abort(self, older_than: float) -> None:
        """A connection that came back at this very moment may be among them: who gets it next runs again."""
        now = time.monotonic()
        for one, since in self._out.copy().items():
            if now - since > older_than and (line := self._lines.get(one)):
                self._out.pop(one, None)
                self._silent.add(one)
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def _note_away(self, since: float, reason: str) -> None:
        with self._back:
            self._away = self._away or (since, reason)

    def _note_back(self) -> None:
        with self._back:
            self._away = None
            self._back.notify_all()


def is_connected(line: socket.socket) -> bool:
    """Whether the other side has not closed it, as far as this machine knows."""
    try:
        return line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def turned(arguments: dict[str, Any], turn: int) -> dict[str, Any]:
    """With another of several hosts in front: one that is silent must not use up the time of those behind it."""
    hosts, ports = (str(arguments.get(name, "")).split(",") for name in ("host", "port"))
    if len(hosts) == 1:
        return arguments
    turn %= len(hosts)
    ports = ports[turn:] + ports[:turn] if len(ports) > 1 else ports
    return arguments | {"host": ",".join(hosts[turn:] + hosts[:turn]), "port": ",".join(ports)}


def within(seconds: float, connect: Callable[[], Driver]) -> Driver:
    """What `connect` returns, or ConnectionTimeout: the driver itself waits for two seconds at least.

    Waited for in slices, so that no time counts while this process did not get to look: it may be busy in a long call.
    """
    answer: Future[Driver] = Future()
    Thread(target=_answer, args=(answer, connect), name="database-connect", daemon=True).start()
    try:
        for _ in range(_SLICES):
            with suppress(TooLate):
                return answer.result(seconds / _SLICES)
        answer.add_done_callback(_close_unused)
        raise ConnectionTimeout(f"connection failed: no answer within {seconds} s")
    finally:
        del answer  # else an error and its traceback would keep each other, and the driver's socket, for long


def _answer(answer: Future[Driver], connect: Callable[[], Driver]) -> None:
    try:
        driver = connect()
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        answer.set_exception(error)
    else:
        answer.set_result(driver)
    finally:
        del answer


def _close_unused(answer: Future[Driver]) -> None:
    if not answer.exception():
        answer.result().close()
