"""`servers.json`: what runs in a home and where, true for as long as its writer lives.

The writer locks the file before giving it its name, and keeps it locked. So a notice that is locked is true, and
one that is not is what a killed supervisor left behind. No process id is compared: those are used again.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from embedded.files import open_private, try_lock

READY = "ready"
"""The first word of a supervisor to the user that started it; any other is the reason why it failed."""


@dataclass(frozen=True, slots=True)
class Servers:
    """How to reach the servers, and what they are."""

    database_url: str
    redis_url: str
    postgres: str
    redis: str


@dataclass(frozen=True, slots=True)
class Notice:
    servers: Servers
    durable: bool
    pids: dict[str, int]


def read_notice(home: Path) -> Notice | None:
    """None if the servers are not up, or nobody looks after them."""
    try:
        file = _path(home).open(encoding="utf-8")
    except FileNotFoundError:
        return None
    with file:
        text = file.read()
        if try_lock(file, shared=True):
            return None
    said = json.loads(text)
    return Notice(Servers(**said["servers"]), said["durable"], said["pids"])


class NoticeBoard:
    """The supervisor's side of it."""

    def __init__(self, home: Path) -> None:
        self._path = _path(home)
        self._posted: IO[str] | None = None

    @property
    def is_empty(self) -> bool:
        return self._posted is None

    def post(self, notice: Notice) -> None:
        self.clear()
        fresh = self._path.with_name("servers.new")
        fresh.unlink(missing_ok=True)
        file = open_private(fresh, "x")
        try_lock(file)
        json.dump(asdict(notice), file, indent=2)
        file.flush()
        fresh.replace(self._path)
        self._posted = file

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
        if self._posted:
            self._posted.close()
            self._posted = None


def _path(home: Path) -> Path:
    return home / "servers.json"
