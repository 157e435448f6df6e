"""Keeps the parts of the service running as child processes of one parent."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from embedded.process import Launcher

log = logging.getLogger(__name__)

_POLL = 0.1
_SHORT_LIFE = 5.0
_LONGEST_PAUSE = 5.0


@dataclass(slots=True)
class Part:
    """A part of the service: `allocation ARGUMENTS` in a process of its own; `once`: until it has succeeded; its
    standard output is ours if it `is_heard`."""

    arguments: Sequence[str]
    once: bool = False
    is_heard: bool = True
    done: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    pause: float = _POLL

    @property
    def name(self) -> str:
        return self.arguments[0]


@dataclass(slots=True)
class Processes:
    """Starts parts again when they end, and ends them in order, the last of `parts` last. Times are in seconds."""

    parts: list[Part]
    environment: Mapping[str, str]
    drain: float = 3.5
    clock: Callable[[], float] = field(default=time.monotonic)

    def run(self, stop: Event, each_round: Callable[[], None]) -> None:
        """Keep the parts running until stopped; `each_round` is called every tenth of a second."""
        try:
            while not stop.is_set():
                for part in self.parts:
                    self._keep_running(part)
                each_round()
                stop.wait(_POLL)
        finally:
            self.end()

    def end(self) -> None:
        """Ask all to finish what they are at: first those that bring work, then the last, which carries it out."""
        give_up = self.clock() + self.drain
        self._terminate(self.parts[:-1], give_up)
        self._terminate(self.parts[-1:], max(give_up, self.clock() + 0.5))

    def _keep_running(self, part: Part) -> None:
        now = self.clock()
        if part.done or (part.process and part.process.poll() is None):
            return
        if part.once and part.process and part.process.returncode == 0:
            part.done = True
            return
        if part.process:
            lived = now - part.started
            part.pause = min(part.pause * 2, _LONGEST_PAUSE) if lived < _SHORT_LIFE else _POLL
            part.start_at = now + part.pause
            log.warning("a part has ended", extra={"part": part.name, "status": part.process.returncode})
            part.process = None
        if now >= part.start_at:
            part.process = self._start(part)
            part.started = now

    def _start(self, part: Part) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal reaches the parent only, which then ends the parts in order.
        return subprocess.Popen(
            Launcher(Path()).command(Path(sys.executable), "-m", "allocation", *part.arguments),
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=None if part.is_heard else subprocess.DEVNULL,
            start_new_session=True,
        )

    def _terminate(self, parts: Sequence[Part], give_up: float) -> None:
        running = [part.process for part in parts if part.process and part.process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(max(give_up - self.clock(), 0.05))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
