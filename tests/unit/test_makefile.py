"""The commands that a newcomer types first, and those that readers of the book know."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_THE_BOOK = {"all", "build", "up", "down", "test", "unit-tests", "integration-tests", "e2e-tests", "logs", "black"}
OURS = {
    "help",
    "run",
    "migrate",
    "check",
    "demo",
    "chaos",
    "mutants",
    "bench",
    "bench-quick",
    "docs",
    "static-checks",
    "lint",
} | {*("typecheck", "format", "clean", "partitions", "catalogue", "pictures")}
ENV = {"PATH": os.environ["PATH"]}  # without what the `make` that may have started us says to its like


def make(*arguments: str) -> str:
    made = subprocess.run(["make", *arguments], cwd=ROOT, env=ENV, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_lists_every_command_with_a_line_about_it() -> None:
    listed = dict(re.findall(r"^make (\S+) +(\S.*)$", make(), re.MULTILINE))
    assert listed.keys() == OF_THE_BOOK | OURS
    assert make("help") == make()


@pytest.mark.parametrize("command", sorted(OF_THE_BOOK | OURS))
def test_has_something_to_do_for(command: str) -> None:
    assert make("--dry-run", command).strip()


def test_checks_and_layers_of_tests_follow_each_other(tmp_path: Path) -> None:
    assert make_test_with_stand_ins(tmp_path) == [
        "ruff check",
        "ruff format --check",
        "lint-imports --no-logo",
        "mypy",
        "python -m pytest tests/unit",
        "python -m pytest --numprocesses 2 tests/integration",
        "python -m pytest --numprocesses 2 --dist loadfile tests/e2e",
        "make: 0",
    ]


def test_the_first_layer_that_fails_is_the_last_that_runs(tmp_path: Path) -> None:
    assert make_test_with_stand_ins(tmp_path, failing="tests/unit")[-2:] == ["python -m pytest tests/unit", "make: 2"]


def test_another_compose_can_be_used() -> None:
    assert make("--dry-run", "up").startswith("docker compose up")
    assert make("--dry-run", "COMPOSE=podman compose", "up").startswith("podman compose up")


def make_test_with_stand_ins(folder: Path, failing: str = "nothing") -> list[str]:
    """What `make --jobs=4 test` does, on programs that only say when they begin and end, one after the other."""
    said = folder / "said"
    for name in ("ruff", "lint-imports", "mypy", "python"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nstep="{name} $*"\necho "${{step% }}" >>{said}\nsleep 0.02\necho end >>{said}\n'
            f'case "$*" in *{failing}*) exit 1;; esac\n'
        )
        program.chmod(0o755)
    arguments = ["--jobs=4", "--old-file=.venv/ready-to-test", f"BIN={folder}", "test"]
    made = subprocess.run(["make", *arguments], cwd=ROOT, env=ENV, capture_output=True, text=True, check=False)
    lines = said.read_text().splitlines()
    assert set(lines[1::2]) == {"end"}, f"side by side: {lines}"
    return [*lines[::2], f"make: {made.returncode}"]
