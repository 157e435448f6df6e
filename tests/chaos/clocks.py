"""Clocks that jump: of the parts of the service and of the servers, each by itself, where there is a C compiler."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

from tests.chaos.worlds import Fault

SOURCE = Path(__file__).with_name("clock.c")
PARTS = "serve", "relay", "consume"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Clocks:
    """Whoever is started from now on has a clock by its name, the part's or else the program's, until `close`.

    `missing` says why there are none, if there are none.
    """

    def __init__(self, folder: Path, *programs: str) -> None:
        self._folder = folder / "clocks"
        self._folder.mkdir(mode=0o755)
        library = self._folder / "clock.so"
        self.missing = _compile(library)
        for name in (*PARTS, *programs):
            self.set(name, timedelta())
        if not self.missing:
            os.environ |= {"LD_PRELOAD": str(library), "CHAOS_CLOCKS": str(self._folder)}

    def set(self, name: str, ahead: timedelta) -> None:
        file = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        os.pwrite(file, struct.pack("=q", ahead // timedelta(milliseconds=1)), 0)
        os.close(file)

    def require(self, name: str, now: Callable[[], float]) -> None:
        """A program that can't be preloaded has no clock of ours."""
        if not self.missing:
            self.set(name, HOUR)
            if abs(now() - time.time() - HOUR.total_seconds()) > HOUR.total_seconds() / 2:
                self.missing = f"{name} takes no notice of the clock that it is given"
            self.set(name, timedelta())

    def jump(self, name: str, *ways: timedelta, seconds: float = 2.0, meanwhile: Fault | None = None) -> Fault:
        """Ahead or back, and after some seconds it is right again."""

        def jump(random: Random) -> float:
            self.set(name, random.choice(ways))
            try:
                time.sleep(seconds)
                if meanwhile:
                    meanwhile(random)
            finally:
                self.set(name, timedelta())
            return time.time()

        return jump

    def close(self) -> None:
        for name in ("LD_PRELOAD", "CHAOS_CLOCKS"):
            with suppress(KeyError):
                del os.environ[name]


def _compile(library: Path) -> str:
    compiler = shutil.which("cc")
    if not compiler:
        return "there is no C compiler here"
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return f"the C compiler says: {made.stdout.strip()[:200]}" if made.returncode else ""
