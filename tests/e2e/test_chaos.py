"""The short form of `make chaos`: each part is killed, a commit cut, Redis forgets, and the database fails over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_whatever_breaks_nothing_is_lost_sold_twice_or_published_out_of_order() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout
    assert run.stdout.strip().endswith("no violations"), run.stdout
