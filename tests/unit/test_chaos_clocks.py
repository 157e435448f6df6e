"""Clocks of single processes jump where there is a compiler; where there is none the chaos rounds say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.chaos import report
from tests.chaos.clocks import DAY, HOUR, Clocks

ASK = "import time; print(time.time(), time.clock_gettime(time.CLOCK_REALTIME), time.monotonic())"


@pytest.fixture
def clocks(tmp_path: Path) -> Iterator[Clocks]:
    clocks = Clocks(tmp_path)
    yield clocks
    clocks.close()


def time_of(part: str) -> list[float]:
    """What a process finds: the time, twice, and how long the machine has been up."""
    environment = {**os.environ, "CHAOS_CLOCK": part}
    return [float(one) for one in subprocess.check_output([sys.executable, "-c", ASK], env=environment).split()]


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler here")
@pytest.mark.parametrize("ahead", [8 * DAY, -40 * DAY, HOUR, timedelta(milliseconds=-1500), timedelta()])
def test_the_clock_of_one_process_jumps_and_no_other(clocks: Clocks, ahead: timedelta) -> None:
    assert not clocks.missing
    clocks.set("relay", ahead)

    for now in time_of("relay")[:2]:
        assert now - time.time() == pytest.approx(ahead.total_seconds(), abs=1.0)
    assert time_of("serve")[0] == pytest.approx(time.time(), abs=1.0)
    assert time_of("relay")[2] == pytest.approx(time.monotonic(), abs=1.0), "spans of time stay right"


def test_without_a_compiler_nothing_is_preloaded_and_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LD_PRELOAD", raising=False)

    clocks = Clocks(tmp_path)

    assert clocks.missing == "there is no C compiler here"
    assert "LD_PRELOAD" not in os.environ
    page = tmp_path / "chaos.md"
    chapter = report.Chapter("single servers", "PostgreSQL 18.4", without=f"No clock jumped: {clocks.missing}.")
    report.write(page, [chapter], 60)
    assert "\nNo clock jumped: there is no C compiler here.\n" in page.read_text()


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler here")
def test_a_program_that_takes_no_notice_is_found_out(clocks: Clocks) -> None:
    clocks.require("postgres", time.time)
    assert clocks.missing == "postgres takes no notice of the clock that it is given"
