"""The commands that a newcomer types first, and those that readers of the book know."""

import os
import re
import subprocess
from dataclasses import dataclass
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
} | {*("typecheck", "format", "clean", "partitions", "test-pairs", "test-laws", "catalogue", "pictures")}
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


INTEGRATION = "python -m pytest --numprocesses 3 tests/integration"
OTHERS = [
    "ruff check",
    "ruff format --check",
    "lint-imports --no-logo",
    "mypy",
    "python -m pytest tests/unit",
    "python -m pytest --numprocesses 2 --dist loadfile tests/e2e",
]


def test_checks_and_layers_of_tests_follow_each_other_beside_the_integration_tests(tmp_path: Path) -> None:
    run = make_test_with_stand_ins(tmp_path)

    assert [step for step in run.steps if step != INTEGRATION] == OTHERS
    assert INTEGRATION in run.steps
    assert (run.status, run.last_line) == (0, "Passed: static-checks unit-tests integration-tests e2e-tests")


@pytest.mark.parametrize(
    ("failing", "last", "said"),
    [
        ("mypy", 4, "Failed: static-checks"),
        ("tests/unit", 5, "Failed: unit-tests"),
        ("tests/e2e", 6, "Failed: e2e-tests"),
        ("tests/integration", 6, "Failed: integration-tests"),
        ("pytest", 5, "Failed: unit-tests integration-tests"),
    ],
)
def test_what_fails_is_the_last_of_its_row_and_is_said_at_the_end(
    tmp_path: Path, failing: str, last: int, said: str
) -> None:
    run = make_test_with_stand_ins(tmp_path, failing)

    assert [step for step in run.steps if step != INTEGRATION] == OTHERS[:last]
    assert INTEGRATION in run.steps
    assert (run.status, run.last_line) == (2, said)


def test_another_compose_can_be_used() -> None:
    assert make("--dry-run", "up").startswith("docker compose up")
    assert make("--dry-run", "COMPOSE=podman compose", "up").startswith("podman compose up")


@dataclass(frozen=True)
class Run:
    steps: list[str]
    status: int
    last_line: str


def make_test_with_stand_ins(folder: Path, failing: str = "nothing") -> Run:
    """What `make --jobs=4 test` does, on programs that only say when they begin and end, one after the other."""
    said = folder / "said"
    for name in ("ruff", "lint-imports", "mypy", "python"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nstep="{name} $*"\ncase "$step" in *integration*) row=beside;; *) row={said};; esac\n'
            f'echo "${{step% }}" >>$row\nsleep 0.02\necho end >>$row\n'
            f'case "$step" in *{failing}*) exit 1;; esac\n'
        )
        program.chmod(0o755)
    (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (folder / ".venv").mkdir()
    for name, content in (("pyproject.toml", ""), (".venv/made-in", str(folder)), (".venv/ready-to-test", "")):
        (folder / name).write_text(content)
    arguments = ["--jobs=4", f"BIN={folder}", "test"]
    made = subprocess.run(["make", *arguments], cwd=folder, env=ENV, capture_output=True, text=True, check=False)
    row, beside = said.read_text().splitlines(), (folder / "beside").read_text().splitlines()
    assert set(row[1::2]) == set(beside[1::2]) == {"end"}, f"side by side: {row}"
    return Run([*row[::2], *beside[::2]], made.returncode, made.stdout.splitlines()[-1])
