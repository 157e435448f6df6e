"""Child processes, run to their end or kept running. On Linux none outlives the process that started it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import EmbeddedServersError
from embedded.files import open_log
from embedded.waiting import wait_for

LAUNCH = Path(__file__).with_name("launch.py")

START_WITHIN = 30.0
"""Seconds. A machine under load, or a long log to recover from, is no reason to fail."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts a program in a folder, as another user (see `launch.change_user`), tied to our life by a signal."""

    folder: Path = Path("/")
    identity: str = ""
    end_signal: signal.Signals = signal.SIGTERM

    def command(self, program: Path, *arguments: str) -> list[str]:
        how = [str(os.getpid()), str(int(self.end_signal)), self.identity, str(self.folder)]
        return [sys.executable, "-I", "-S", str(LAUNCH), *how, str(program), *arguments]

    def run(self, program: Path, *arguments: str, stdin: str = "") -> str:
        """What the program prints, or an error that quotes the line in which it complains."""
        return _run(program, self.command(program, *arguments), stdin)


class Process:
    """A program kept running, whose output is appended to a log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, launcher: Launcher, program: Path, *arguments: str, stdin: str = "", ready: Callable[[], bool]
    ) -> None:
        """Returns when the server is `ready`."""
        with open_log(self._log) as log:
            log_size = log.tell()
            self._process = subprocess.Popen(
                launcher.command(program, *arguments),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,  # a terminal's Ctrl-C is not meant for it
            )
        assert self._process.stdin
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(stdin.encode())
        wait_for(lambda: not self.alive or ready(), within=START_WITHIN)
        if not self.alive:
            output = self._log.read_bytes()[log_size:].decode(errors="replace")
            raise EmbeddedServersError(f"{program} did not start: {_complaint(output)} (more in {self._log})")
        if not ready():
            self.end(signal.SIGKILL)
            raise EmbeddedServersError(f"{program} was not ready within {START_WITHIN:.0f} s (see {self._log})")

    @property
    def pid(self) -> int:
        assert self._process, "known from the first start on"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self, *signals: signal.Signals, patience: float = 10.0) -> None:
        """Send each signal, if the one before has not helped within `patience` seconds, then SIGKILL; wait for it."""
        if not self._process:
            return
        for each in signals:
            self._process.send_signal(each)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                return
        self._process.kill()
        self._process.wait()


def version_of(program: Path, pattern: str) -> str:
    """The product and its version, as the groups of `pattern` find them in what `--version` prints."""
    output = _run(program, [program, "--version"])
    if not (found := re.search(pattern, output)):
        raise EmbeddedServersError(f"{program} is not what it should be: --version says {_complaint(output)!r}")
    return " ".join(found.groups())


def _run(program: Path, command: Sequence[str | Path], stdin: str = "") -> str:
    try:
        result = subprocess.run(
            command,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(),
            timeout=START_WITHIN,
            check=False,
        )
    except OSError as error:
        raise EmbeddedServersError(f"cannot run {program}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise EmbeddedServersError(f"{program} was not done within {START_WITHIN:.0f} s") from error
    if result.returncode != 0:
        raise EmbeddedServersError(f"{program} failed: {_complaint(result.stdout)}")
    return result.stdout


_ADVICE = "Memory overcommit"
"""What Valkey prints on most machines, whatever else is wrong."""


def _complaint(output: str) -> str:
    """The line that most likely says what is wrong: the last of the gravest. Valkey marks its warnings by a `#`."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and _ADVICE not in line] or ["no output"]
    gravest_first = ("fatal|panic|terminated by signal", "error|fail| # ", "")
    return next(line for words in gravest_first for line in reversed(lines) if re.search(words, line, re.IGNORECASE))


def _environment() -> dict[str, str]:
    """Ours, but in English, since we look for words in what is printed."""
    return {**os.environ, "LC_ALL": "C"}
