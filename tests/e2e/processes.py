"""Processes as the kernel lists them: who is whose child, and what a service has left behind (Linux)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    command: str


def processes_of(home: Path) -> list[Process]:
    """Those that mention the folder in their command line or environment, or work in it. Zombies do neither."""
    return [found for entry in Path("/proc").glob("[0-9]*") for found in _look_at(entry, home)]


def _look_at(entry: Path, home: Path) -> Iterator[Process]:
    with suppress(OSError):  # it has ended meanwhile
        if not (command := (entry / "cmdline").read_bytes()):
            return  # the kernel's own, every second one
        where = (entry / "cwd").readlink()
        if os.fsencode(home) in command + (entry / "environ").read_bytes() or where.is_relative_to(home):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            yield Process(int(entry.name), int(parent), os.fsdecode(command.replace(b"\0", b" ")).strip())


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process does nothing for a while, not even notice what happens."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
