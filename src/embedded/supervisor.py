"""The process that runs the servers of one home: `python -m embedded.supervisor HOME DURABLE`.

It starts them, starts them again if they die, and stops them when they have no users. `sharing` says how it comes to
be, and how it and the users find each other.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from embedded.connection_file import READY, Connection, ConnectionFile, Servers, read_connection
from embedded.errors import EmbeddedServersError
from embedded.files import open_private, try_lock
from embedded.postgres import Postgres
from embedded.valkey import Redis
from embedded.waiting import wait_for

WAIT_FOR_ANOTHER = 60.0
POLL_EVERY = 0.1
RESTART_EVERY = 1.0

logger = logging.getLogger(__name__)


class Supervisor:
    """Of both servers of a home, for as long as it has users."""

    def __init__(self, home: Path, *, durable: bool) -> None:
        self._home = home
        self._durable = durable
        self._redis = Redis(home / "redis", log=home / "log/redis.log", durable=durable)
        self._postgres = Postgres(home / "postgres", log=home / "log/postgres.log", durable=durable)
        self._servers = (self._redis, self._postgres)
        self._connection_file = ConnectionFile(home)
        self._users = open_private(home / "users.lock", "a")
        self._restart_at = 0.0
        self._stopping = False

    def run(self, when_ready: Callable[[], None]) -> None:
        self._connection_file.withdraw()
        try:
            self._start_servers()
            when_ready()
            while not self._is_done():
                self._keep_servers_running()
                time.sleep(POLL_EVERY)
        finally:
            self._connection_file.withdraw()
            for server in self._servers:
                server.stop()
            logger.info("stopped")

    def stop(self, *_: object) -> None:
        self._stopping = True

    def _keep_servers_running(self) -> None:
        """While one of them is down there is no connection file: users that come now wait for it."""
        if self._connection_file.is_published and all(server.alive for server in self._servers):
            return
        try:
            self._connection_file.withdraw()
            if time.monotonic() >= self._restart_at:
                self._restart_at = time.monotonic() + RESTART_EVERY
                logger.warning("a server is down, or the connection file is not as it was written")
                self._start_servers()
        except (EmbeddedServersError, OSError):  # a full disk, say: it may pass, and we still have users
            logger.exception("not all servers are up")

    def _start_servers(self) -> None:
        for server in self._servers:
            if not server.alive:
                begin = time.monotonic()
                server.start()
                logger.info("%s started in %.2f s, pid %d", server.version, time.monotonic() - begin, server.pid)
        postgres, redis = self._postgres, self._redis
        servers = Servers(postgres.url, redis.url, postgres.version, redis.version)
        pids = {"supervisor": os.getpid(), "postgres": postgres.pid, "redis": redis.pid}
        self._connection_file.publish(Connection(servers, self._durable, pids))

    def _is_done(self) -> bool:
        """Once this is true it stays so: we keep the lock, and whoever comes now waits until we have ended."""
        if self._stopping:
            return True
        try:
            is_ours = os.path.samestat((self._home / "users.lock").stat(), os.fstat(self._users.fileno()))
        except FileNotFoundError:
            is_ours = False
        return not is_ours or try_lock(self._users)


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
        _answer(str(error))
        sys.exit(1)


def supervise(home: Path, *, durable: bool) -> None:
    """Unless another supervisor does already: then wait until it is ready, or take its place."""
    with open_private(home / "supervisor.lock", "a") as lock:
        found = wait_for(lambda: try_lock(lock) or read_connection(home), within=WAIT_FOR_ANOTHER)
        if isinstance(found, Connection):
            _answer(READY)
        elif found:
            supervisor = Supervisor(home, durable=durable)
            signal.signal(signal.SIGTERM, supervisor.stop)
            os.chdir("/")
            supervisor.run(when_ready=lambda: _answer(READY))
        else:
            raise EmbeddedServersError(
                f"another supervisor cannot get the servers in {home} to run (see {home / 'log'})"
            )


def _answer(word: str) -> None:
    """To the user that started us, who waits until our standard output is closed, or has gone."""
    with suppress(BrokenPipeError):
        os.write(1, word.encode(errors="replace"))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
