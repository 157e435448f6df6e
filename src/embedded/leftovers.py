"""What a killed server, or a killed supervisor, has left running in a server's folder.

PostgreSQL's backends outlive a killed postmaster for as long as their query does not look up, and a server
whose supervisor was killed may still be writing its last checkpoint. Nothing may start beside either.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from embedded.errors import EmbeddedServersError
from embedded.waiting import wait_for

PATIENCE = 10.0


def end_leftovers(
    folder: Path, programs: Collection[str], *, stop_signal: signal.Signals, leader: int | None = None, title: str = ""
) -> None:
    """Send the signal to all, or only to their leader, wait, and kill what remains."""

    def remaining() -> set[int]:
        return processes_in(folder, programs, title)

    found = remaining()
    if stoppable := found if leader is None else found & {leader}:
        _send(stoppable, stop_signal)
        wait_for(lambda: not remaining(), within=PATIENCE)
    _send(remaining(), signal.SIGKILL)
    if not wait_for(lambda: not remaining(), within=PATIENCE):
        raise EmbeddedServersError(f"cannot end what is still running in {folder}: {remaining()}")


def processes_in(folder: Path, programs: Collection[str], title: str = "") -> set[int]:
    """Those of the named programs that work in the (resolved) folder or below; `title` tells those that hide where."""
    if sys.platform != "linux":
        return _processes_by_lsof(folder, programs)
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is none of our business
            if (process / "comm").read_text().rstrip() in programs and _works_in(folder, process, title):
                found.add(int(process.name))
    return found


def _works_in(folder: Path, process: Path, title: str) -> bool:
    try:
        return (process / "cwd").readlink().is_relative_to(folder)
    except PermissionError:  # in a container, where even root may not look at another user's; titles are public
        return title != "" and title in (process / "cmdline").read_text(errors="replace")


def _processes_by_lsof(folder: Path, programs: Collection[str]) -> set[int]:
    """The same where there is no /proc, as on macOS."""
    wanted = [argument for program in programs for argument in ("-c", program)]
    listing = subprocess.run(["lsof", "-a", "-d", "cwd", "-F", "pn", *wanted], capture_output=True, check=False).stdout
    found, pid = set(), 0
    for line in os.fsdecode(listing).splitlines():
        kind, value = line[0], line[1:]
        if kind == "p":
            pid = int(value)
        elif kind == "n" and Path(value).is_relative_to(folder):
            found.add(pid)
    return found


def _send(pids: Collection[int], which: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, which)
