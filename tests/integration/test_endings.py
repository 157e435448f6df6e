"""How a command ends that nobody reads any more, that can't write, or that is interrupted: as real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from unittest.mock import ANY

import pytest
from click.testing import CliRunner

from allocation.bootstrap import Service
from allocation.config import Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.cli import main
from embedded.waiting import wait_for

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Starts `allocation ...` on the servers of this test."""
    started: list[subprocess.Popen[str]] = []
    environment = settings.as_environment({"PATH": os.environ["PATH"]})

    def run(*arguments: str, stdout: int | IO[Any] = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "allocation", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdin=pipe, stdout=stdout, stderr=pipe, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def nobody_reads() -> Iterator[IO[bytes]]:
    """A pipe whose other end is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        yield pipe


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_what_is_fine_is_so_when_nobody_reads_it(service: Service, start: Start, nobody_reads: IO[bytes]) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    service.bus.handle(Allocate("o1", "LAMP", 1))
    commands = ["check", "export allocations -", "watch --since 1h", "--help", "catalogue"]

    processes = [start(*command.split(), stdout=nobody_reads) for command in commands]

    ends = dict(zip(commands, map(ended, processes), strict=True))
    assert ends == dict.fromkeys(commands, (0, ""))


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_changes_no_verdict(
    service: Service, settings: Settings, tmp_path: Path, closed: str
) -> None:
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    service.bus.handle(Allocate("o1", "LAMP", 1))
    environment = settings.as_environment({"PATH": os.environ["PATH"]})

    def ask(*arguments: str) -> tuple[int, str, str]:
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "allocation", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    is_read, is_told = " >&-" not in f" {closed}", "2>&-" not in closed
    assert ask("orders", "--json") == (0, ANY if is_read else "", "")
    code, _, said = ask("orders", "--nonsense")
    assert (code, said.startswith("Error: No such option")) == (2, is_told)
    code, said, _ = ask("export", "allocations", "-")
    assert (code, said != "") == (0, is_read)


SECRET = "planted-secret-4711"
BEFORE_THE_HOST = re.compile(r"(?<=://).*(?=@)")


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("serve", "DATABASE_URL", f"postgresql://u:{SECRET}@127.0.0.1:port/x"),
        ("serve", "DATABASE_POOLER_URL", f"mysql://u:{SECRET}@127.0.0.1/x"),
        ("serve", "REDIS_URL", f"redis://:{SECRET}@here:x/0"),
        ("relay", "SMTP_URL", f"smtp://u:{SECRET}@here:x"),
        ("relay", "SMTP_URL", f"smtps://:{SECRET}@here"),
        ("migrate", "DATABASE_URL", f"postgresql://u:{SECRET}@127.0.0.1:9/x"),
        ("check", "DATABASE_URL", ""),
        ("check", "DATABASE_URL", "?sslmode=nonsense"),
        ("dead-letters list", "DATABASE_URL", "x"),
        ("keys list", "DATABASE_URL", f"postgresql://u:{SECRET}@nowhere.invalid/x"),
    ],
)
def test_whoever_is_refused_hears_no_secret(settings: Settings, command: str, name: str, value: str) -> None:
    """Nor in what is logged at its most talkative. A value that is no URL comes after that of the test's database."""
    if "://" not in value:
        value = BEFORE_THE_HOST.sub(f"nobody:{SECRET}", settings.database_url) + value
    environment = settings.as_environment({}) | {"LOG_LEVEL": "DEBUG", name: value}

    result = CliRunner(env=environment).invoke(main, command.split())

    assert result.exit_code == 1
    assert "Error: " in result.output
    assert SECRET not in result.output


def test_what_is_not_fine_is_not_though_nobody_reads_it(start: Start, nobody_reads: IO[bytes]) -> None:
    code, said = ended(start("status", stdout=nobody_reads))

    assert (code, said) == (1, "")


def test_an_import_goes_on_when_nobody_reads_its_results(
    service: Service, start: Start, nobody_reads: IO[bytes], tmp_path: Path
) -> None:
    (tmp_path / "batches.csv").write_text("ref,sku,qty\n" + "".join(f"b{n},LAMP,1\n" for n in range(50)))

    code, _ = ended(start("import", "batches", "batches.csv", "--verbose", stdout=nobody_reads))

    assert code == 0
    assert service.bus.handle(Allocate("o1", "LAMP", 1)) == "b0"
    assert ended(start("export", "allocations", "all.csv", stdout=nobody_reads)) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is full")
def test_a_result_that_can_not_be_written_is_said_in_a_line(start: Start) -> None:
    commands = ["--help", "check", "catalogue", "export allocations -"]

    with Path("/dev/full").open("w") as full:
        processes = [start(*command.split(), stdout=full) for command in commands]

    for command, (code, said) in zip(commands, map(ended, processes), strict=True):
        assert code == 1, command
        assert said.startswith("Error: "), command
        assert "No space left on device" in said, command
        assert said.count("\n") == 1, command


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how far another process has come")
def test_ctrl_c_while_all_is_imported_ends_it_without_a_word(start: Start) -> None:
    process = start("check")
    loaded = Path(f"/proc/{process.pid}/maps")

    assert wait_for(lambda: "lib-dynload" in loaded.read_text(), within=30, every=0.002), "the first of many modules"
    process.send_signal(signal.SIGINT)

    assert ended(process) == (130, "")
