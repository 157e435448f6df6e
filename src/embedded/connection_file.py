"""`servers.json`: what runs in a home and how to connect to it, true for as long as its writer lives.

The writer locks the file before giving it its name, and keeps it locked. So a file that is locked is true, and one
that is not is what a killed supervisor left behind. No process id is compared: those are used again.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from embedded.files import try_lock, write_locked

NAME = "servers.json"

READY = "ready"
"""What a supervisor answers the user that started it; anything else is the reason why it failed."""


@dataclass(frozen=True, slots=True)
class Servers:
    """How to reach the servers, and what they are."""

    database_url: str
    redis_url: str
    postgres: str
    redis: str


@dataclass(frozen=True, slots=True)
class Connection:
    """What the file says."""

    servers: Servers
    durable: bool
    pids: dict[str, int]


def read_connection(home: Path) -> Connection | None:
    """None if the servers are not up, or nobody supervises them."""
    try:
        file = (home / NAME).open(encoding="utf-8")
    except PermissionError:
        raise
    except OSError:  # it is not there, or is no file
        return None
    with file:
        content = file.read()
        if try_lock(file, shared=True):
            return None
    try:
        fields = json.loads(content)
        return Connection(Servers(**fields["servers"]), fields["durable"], fields["pids"])
    except (ValueError, LookupError, TypeError):  # somebody else has written in it; the supervisor writes it anew
        return None


class ConnectionFile:
    """The supervisor's side of it."""

    def __init__(self, home: Path) -> None:
        self._path = home / NAME
        self._published: IO[str] | None = None
        self._as_written: tuple[int, ...] = ()

    @property
    def is_published(self) -> bool:
        """Whether it is there as we have written it."""
        try:
            return self._published is not None and _version(self._path.stat()) == self._as_written
        except OSError:  # it is not there, or is no file
            return False

    def publish(self, connection: Connection) -> None:
        self._published = write_locked(self._path, json.dumps(asdict(connection), indent=2))
        self._as_written = _version(os.fstat(self._published.fileno()))

    def withdraw(self) -> None:
        with suppress(OSError):  # it is not there, or is no file
            self._path.unlink()
        if self._published:
            self._published.close()
            self._published = None


def _version(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns
