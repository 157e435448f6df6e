"""Programs that run beside us while we measure: started, waited for, and ended whatever happens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
_FOREIGN = ("DB_HOST", "DB_PASSWORD", "REDIS_HOST", "EMAIL_HOST", "API_HOST", "HOST", "LOG_LEVEL", "LOG_FORMAT")


@contextmanager
def program(module: str, *arguments: str, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module arguments`, with these settings and no others."""
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN} | settings
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(question: Callable[[], T], hope: str, within: float = 30.0) -> T:
    """The first answer that is true."""
    deadline = time.monotonic() + within
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:.0f} s: {hope}")
        time.sleep(0.02)
    return answer


def answers(port: int, path: str = "/readyz") -> bool:
    """Whether a GET is answered with 200."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as probe:
            probe.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return probe.recv(100).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def free_port() -> int:
    for port in SystemRandom().sample(range(10_000, 20_000), 100):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                return port
    raise OSError("no free port")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid: int, what: str = "VmRSS") -> float:
    """In megabytes; `VmHWM` is the most it ever had."""
    return _number_in(Path(f"/proc/{pid}/status").read_text(), what) / 1024


def _number_in(text: str, name: str) -> int:
    found: Mapping[str, str] = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(found[name].split()[0]) if name in found else 0
