"""Files that only their owner may read, and locks that the kernel releases, even for a process killed with SIGKILL."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

LONG_LOG = 10_000_000
"""Bytes."""


def open_private(path: Path, mode: str) -> IO[str]:
    """`open`, creating the file as 0600. Like every file of Python's, it is closed in programs that we start."""
    return open(path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600))


def open_log(path: Path) -> IO[str]:
    """To append to; a long one starts anew, and is kept until the next is as long."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LONG_LOG:
            path.replace(path.with_name(path.name + ".old"))
    return open_private(path, "a")


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, also when the machine stops half-way."""
    write_locked(path, text).close()


def write_locked(path: Path, text: str) -> IO[str]:
    """The same, and nobody ever sees the file unlocked until what is returned has been closed."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    file = open_private(fresh, "x")
    try_lock(file)
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
    fresh.replace(path)
    return file


def try_lock(file: IO[str], *, shared: bool = False) -> bool:
    """Lock the file at once or not at all. Closing it unlocks it, once each process that inherited it by fork has."""
    try:
        fcntl.flock(file, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
    except BlockingIOError:
        return False
    return True
