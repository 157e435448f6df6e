"""The process that looks after the servers of one home: `python -m embedded.supervisor HOME DURABLE`.

It starts them, starts them again if they die, and stops them when nobody uses them any more. `sharing` says how it
comes to be, and what it and the users of the servers owe each other.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from embedded.errors import EmbeddedServersError
from embedded.files import open_private, try_lock
from embedded.notice import READY, Notice, NoticeBoard, Servers, read_notice
from embedded.postgres import Postgres
from embedded.valkey import Redis
from embedded.waiting import wait_for

WAIT_FOR_ANOTHER = 60.0
LOOK_EVERY = 0.1
RESTART_EVERY = 1.0

logger = logging.getLogger(__name__)


class Server(Protocol):
    """What is asked of a server here."""

    version: str

    @property
    def url(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def alive(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Supervisor:
    """Of both servers of a home, for as long as it has users."""

    def __init__(self, home: Path, *, durable: bool) -> None:
        self._home = home
        self._durable = durable
        self._postgres: Server = Postgres(home / "postgres", log=home / "log/postgres.log", durable=durable)
        self._redis: Server = Redis(home / "redis", log=home / "log/redis.log", durable=durable)
        self._board = NoticeBoard(home)
        self._users = open_private(home / "users.lock", "a")
        self._restart_at = 0.0
        self._told_to_stop = False

    def run(self, when_ready: Callable[[], None]) -> None:
        self._board.clear()
        try:
            for server in self._servers:
                self._start(server)
            self._post()
            when_ready()
            while not self._is_deserted():
                self._look_after_servers()
                time.sleep(LOOK_EVERY)
        finally:
            self._board.clear()
            for server in self._servers:
                server.stop()
            logger.info("stopped")

    def stop(self, *_: object) -> None:
        self._told_to_stop = True

    @property
    def _servers(self) -> tuple[Server, Server]:
        return self._redis, self._postgres

    def _start(self, server: Server) -> None:
        begin = time.monotonic()
        server.start()
        logger.info("%s started in %.2f s, pid %d", server.version, time.monotonic() - begin, server.pid)

    def _look_after_servers(self) -> None:
        """While one of them is down there is no notice: users that come now wait for it."""
        dead = [server for server in self._servers if not server.alive]
        try:
            if dead:
                self._board.clear()
                self._restart(dead)
            elif self._board.is_empty:
                self._post()
        except (EmbeddedServersError, OSError):  # a full disk, say: it may pass, and we still have users
            logger.exception("not all servers are up")

    def _restart(self, dead: list[Server]) -> None:
        if time.monotonic() < self._restart_at:
            return
        self._restart_at = time.monotonic() + RESTART_EVERY
        for server in dead:
            logger.warning("%s has died", server.version)
            self._start(server)

    def _post(self) -> None:
        postgres, redis = self._postgres, self._redis
        servers = Servers(postgres.url, redis.url, postgres.version, redis.version)
        pids = {"supervisor": os.getpid(), "postgres": postgres.pid, "redis": redis.pid}
        self._board.post(Notice(servers, self._durable, pids))

    def _is_deserted(self) -> bool:
        """Once this is true it stays so: we keep the lock, and whoever comes now waits until we have ended."""
        if self._told_to_stop:
            logger.info("told to stop")
            return True
        try:
            same = os.path.samestat((self._home / "users.lock").stat(), os.fstat(self._users.fileno()))
        except FileNotFoundError:
            same = False
        if not same:
            logger.info("%s was removed", self._home)
            return True
        return try_lock(self._users)


def main(home: str, durable: str) -> None:
    if os.fork():  # so that we are not the child of the user that started us, who would have to wait for us
        os._exit(0)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, lambda *_: None)  # a handler, unlike SIG_IGN, is not passed on to the servers
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    try:
        supervise(Path(home), durable=bool(int(durable)))
    except (EmbeddedServersError, OSError) as error:
        logger.exception("giving up")
        _tell_user(str(error))
        sys.exit(1)


def supervise(home: Path, *, durable: bool) -> None:
    """Unless another supervisor does already: then wait until it is ready, or take its place."""
    with open_private(home / "supervisor.lock", "a") as lock:
        match wait_for(lambda: try_lock(lock) or read_notice(home), within=WAIT_FOR_ANOTHER):
            case True:
                supervisor = Supervisor(home, durable=durable)
                signal.signal(signal.SIGTERM, supervisor.stop)
                os.chdir("/")
                supervisor.run(when_ready=lambda: _tell_user(READY))
            case Notice():
                _tell_user(READY)
            case _:
                raise EmbeddedServersError(
                    f"another supervisor cannot get the servers in {home} to run (see {home / 'log'})"
                )


def _tell_user(word: str) -> None:
    """Who waits at the other end of our standard output until we have closed it, or has gone."""
    with suppress(BrokenPipeError):
        os.write(1, word.encode(errors="replace"))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
