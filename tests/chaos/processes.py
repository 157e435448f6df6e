"""The parts of the service as processes that are started again at once when they die, as `allocation run` does it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from tests.chaos.steps import Orders


@dataclass(slots=True)
class Keeper:
    """Keeps one part running, in a process group of its own. The kernel ends it with us."""

    part: str
    name: str
    folder: Path
    environment: Mapping[str, str]
    deaths: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Ends that nobody ordered."""
    release: Path | None = None
    """Another than this one: where its modules are. It has no seams that we know."""
    _process: subprocess.Popen[bytes] | None = None
    _thread: Thread | None = None
    _stopping: bool = False

    def start(self) -> None:
        self._stopping = False
        self._thread = Thread(target=self._keep, name=self.name, daemon=True)  # processes end with their thread
        self._thread.start()

    def said(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def wake(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, which: signal.Signals) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, which)

    def stop(self) -> None:
        self._stopping = True
        if self._process:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._thread:
            self._thread.join()

    def _keep(self) -> None:
        with (self.folder / f"{self.name}.log").open("ab") as log:
            while not self._stopping:
                orders = [] if self.release else [str(orders_file(self.folder, self.part))]
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.chaos.victim", self.part, *orders],
                    env={**self.environment, "CHAOS_CLOCK": self.part, **of_release(self.release)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                status = self._process.wait()
                self.deaths.append(time.time())
                if status not in (-signal.SIGKILL, 0):
                    self.faults.append(f"{self.part} ended by itself with {status}")
                    time.sleep(0.2)


@dataclass(slots=True)
class Processes:
    """All parts, some of them several times. Orders are for whichever copy comes to the step first."""

    folder: Path
    keepers: list[Keeper]

    def start(self, release: Path | None = None) -> None:
        for keeper in self.keepers:
            keeper.release = release
            keeper.start()

    def stop(self) -> None:
        for keeper in self.keepers:
            keeper.wake()
            keeper.stop()

    def replace(self, part: str, which: signal.Signals) -> None:
        """This release takes the place of another, which is ended."""
        for keeper in self.keepers:
            if keeper.part == part:
                keeper.release = None
                keeper.send(which)

    def order(self, part: str, *orders: str) -> None:
        Orders(orders_file(self.folder, part)).give(*orders)

    def reached(self, part: str) -> list[float]:
        """When a process was at the step that it had orders for."""
        return Orders(orders_file(self.folder, part)).obeyed()

    def refused(self) -> int:
        """How often a relay was told by Redis that another had taken its place."""
        return sum(keeper.said().count('"came late"') for keeper in self.keepers if keeper.part == "relay")

    def all_deaths(self) -> int:
        return sum(len(keeper.deaths) for keeper in self.keepers)

    def deaths(self, part: str) -> list[float]:
        return sorted(moment for keeper in self.keepers if keeper.part == part for moment in keeper.deaths)

    def wake(self) -> None:
        """Whoever was frozen goes on."""
        for keeper in self.keepers:
            keeper.wake()

    def last_words(self) -> Iterator[str]:
        for keeper in self.keepers:
            yield from (f"{keeper.name}: {line}" for line in keeper.said().splitlines()[-5:])

    def faults(self) -> list[str]:
        """The ends that nobody ordered since this was last asked."""
        found = [fault for keeper in self.keepers for fault in keeper.faults]
        for keeper in self.keepers:
            keeper.faults.clear()
        return found


def processes(folder: Path, environment: Mapping[str, str], copies: int) -> Processes:
    """One API, and so many copies of the other parts."""
    names = [("serve", 1), *((part, number + 1) for part in ("relay", "consume") for number in range(copies))]
    return Processes(folder, [Keeper(part, f"{part}-{number}", folder, environment) for part, number in names])


def of_release(release: Path | None) -> Mapping[str, str]:
    """What its processes have in their environment."""
    return {"PYTHONPATH": str(release)} if release else {}


def orders_file(folder: Path, part: str) -> Path:
    return folder / f"{part}.orders"
