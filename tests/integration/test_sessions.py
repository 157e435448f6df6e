"""Every command that needs a database finds one, or says what to do, in the same way."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import embedded
from allocation.config import Settings, postgres_url
from allocation.database import migrations
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
    home = folder / "home"
    told = f"Nothing was kept in {home}: this is a new, empty database; set DATABASE_URL or ALLOCATION_HOME if yours"
    for command in COMMANDS:
        done = CliRunner(env={"ALLOCATION_HOME": str(home)}).invoke(main, command)
        assert (done.exit_code, done.stderr) == (0, f"{told} is elsewhere.\n" if told else ""), done
        told = ""


def test_one_that_an_older_release_has_made_is_migrated(folder: Path) -> None:
    """By the first command, since nobody else may have done it."""
    home = folder / "home"
    with embedded.servers(home) as servers:
        url = postgres_url(servers.database_url)
        migrations.upgrade(url, "0001")

        done = CliRunner(env={"ALLOCATION_HOME": str(home)}).invoke(main, ["check"])

    assert (done.exit_code, done.output.partition(":")[0]) == (0, "All data is consistent")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_another_database_is_left_as_it_is_and_its_owner_told_what_to_do(
    command: tuple[str, ...], settings: Settings, unmigrated_url: str, folder: Path
) -> None:
    home = folder / "home"
    ours = {"DATABASE_URL": unmigrated_url, "REDIS_URL": "", "ALLOCATION_HOME": str(home)}
    environment = settings.as_environment({}) | ours

    for _ in range(2):
        done = CliRunner(env=environment).invoke(main, command)

        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: the database's schema is not there yet, or another; migrate it first")
        assert "migrate it first" in done.stderr
    assert not home.exists(), "Redis is not needed, and none is started"
    assert not (folder / "EXPORTED").exists()
