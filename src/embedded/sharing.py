"""How any number of processes use one pair of servers, which end with the last of them.

A user holds a shared lock on `users.lock` and does nothing else to belong, or to leave: the kernel releases the lock
of a process that ends, however it ends. The supervisor that can lock the file for itself alone has no users left.

The servers themselves belong to a supervisor, a process of its own that is nobody's child. A user that sees none at
work starts one; if several do at once, one of these locks `supervisor.lock`, and the others wait until it is ready,
or take its place if it fails.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded.connection_file import READY, Connection, Servers, read_connection
from embedded.errors import EmbeddedServersError
from embedded.files import open_log, open_private, try_lock
from embedded.waiting import wait_for

READY_WITHIN = 90.0
"""Seconds; more than a supervisor allows itself, so that its reason is heard."""


@contextmanager
def servers(home: Path, *, durable: bool = True) -> Iterator[Servers]:
    """Use the servers that keep their data under `home`; start them if nobody has; they stop with their last user.

    Without `durable` they are faster, and may lose what was written last if they or the machine die: for tests.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = open_private(home / "users.lock", "a")
    except OSError as error:
        raise EmbeddedServersError(f"cannot keep servers in {home} (ALLOCATION_HOME): {error}") from error
    with lock:
        if not wait_for(lambda: try_lock(lock, shared=True), within=READY_WITHIN):
            raise EmbeddedServersError(f"the servers in {home} do not come to an end (see {_log(home)})")
        yield ensure_running(home, durable=durable)


def keeps_data(home: Path) -> bool:
    """Whether servers have ever been started under `home`."""
    return (home / "postgres").is_dir()


def already_running(home: Path) -> Servers | None:
    """The servers that somebody keeps running under `home`; nobody is counted as their user, and nothing is started."""
    try:
        connection = read_connection(home)
    except OSError as error:
        raise EmbeddedServersError(f"cannot see what runs in {home} (ALLOCATION_HOME): {error}") from error
    return connection.servers if connection else None


def ensure_running(home: Path, *, durable: bool = True) -> Servers:
    """Bring the servers back if their supervisor was killed; otherwise this takes microseconds.

    For a process that runs for long, to call now and then inside `servers`. The URLs stay the same, unless somebody
    else has taken a port meanwhile.
    """
    try:
        connection = wait_for(lambda: read_connection(home) or _start_supervisor(home, durable), within=READY_WITHIN)
    except OSError as error:
        raise EmbeddedServersError(f"cannot keep servers in {home} (ALLOCATION_HOME): {error}") from error
    if not connection:
        raise EmbeddedServersError(f"the servers in {home} are not ready after {READY_WITHIN:.0f} s (see {_log(home)})")
    if durable and not connection.durable:
        raise EmbeddedServersError(f"the servers in {home} were started for tests, and would lose data in a crash")
    return connection.servers


def _start_supervisor(home: Path, durable: bool) -> Connection | None:
    """Returns when the servers are up, whether this supervisor has started them or found them being started."""
    _log(home).parent.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-m", "embedded.supervisor", str(home.resolve()), str(int(durable))]
    with open_log(_log(home)) as log:
        try:
            supervisor = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                env=_environment(),
                timeout=READY_WITHIN,
                check=False,
                start_new_session=True,  # a terminal's Ctrl-C must not end the database before those who use it
            )
        except subprocess.TimeoutExpired:
            return None
    if supervisor.stdout != READY:
        raise EmbeddedServersError(supervisor.stdout or f"the supervisor ended without a word (see {_log(home)})")
    return read_connection(home)


def _environment() -> dict[str, str]:
    """Ours, with this package where the supervisor will find it."""
    here = str(Path(__file__).parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{path}" if path else here}


def _log(home: Path) -> Path:
    return home / "log" / "supervisor.log"
