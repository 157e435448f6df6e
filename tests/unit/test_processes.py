"""The parts of the service as child processes: none outlives its parent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from embedded import launch


@pytest.mark.parametrize(("parent", "status"), [(os.getpid(), 0), (1, 1)], ids=["a parent that lives", "one killed"])
def test_a_child_whose_parent_was_killed_before_it_could_ask_to_die_with_it_does_not_stay(
    parent: int, status: int
) -> None:
    """Who has lost its parent has another: process 1, or one that looks after orphans."""
    command = [sys.executable, launch.__file__, str(parent), "15", "", "/", sys.executable, "-S", "-c", "pass"]

    assert subprocess.run(command, check=False).returncode == status
