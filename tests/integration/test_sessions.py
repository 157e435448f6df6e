"""Every command that needs a database finds one, or says what to do, in the same way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from allocation.config import Settings
from allocation.entrypoints.cli import main

COMMANDS = [
    ("check",),
    ("keys", "list"),
    ("dead-letters", "list"),
    ("export", "allocations", "EXPORTED"),
    ("import", "orders", "ORDERS"),
    ("import", "orders", "ORDERS", "--dry-run"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a file to import, where the commands are run."""
    (tmp_path / "ORDERS").write_text("orderid,sku,qty\no1,LAMP,1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_embedded_database_is_started_and_migrated_for_whichever_command_is_the_first(folder: Path) -> None:
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "allocation", *command],
            env={"ALLOCATION_HOME": str(folder / "home"), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_another_database_is_left_as_it_is_and_its_owner_told_what_to_do(
    command: tuple[str, ...], settings: Settings, unmigrated_url: str, folder: Path
) -> None:
    environment = settings.as_environment({}) | {"DATABASE_URL": unmigrated_url}

    for _ in range(2):
        done = CliRunner(env=environment).invoke(main, command)

        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: the database's schema is not there yet")
        assert "migrate it first" in done.stderr
    assert not (folder / "EXPORTED").exists()
