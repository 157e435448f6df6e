"""The parts of the service as child processes: none outlives its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest

from allocation.entrypoints.command_line.processes import _die_with


@pytest.mark.parametrize(("asked_by", "status"), [(os.getpid(), 0), (1, 1)], ids=["a parent that lives", "one killed"])
def test_a_part_whose_parent_was_killed_before_it_could_ask_to_die_with_it_does_not_stay(
    asked_by: int, status: int
) -> None:
    """Who has lost its parent has another: process 1, or one that looks after orphans."""
    part = subprocess.run(
        [sys.executable, "-S", "-c", "pass"],
        check=False,
        preexec_fn=partial(_die_with, asked_by),
    )

    assert part.returncode == status
