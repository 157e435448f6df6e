"""Each option of the command line once, and numbers as they are over HTTP."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner, Result

from allocation.entrypoints.cli import main

EVERY_GROUP = [main, *(command for command in main.commands.values() if isinstance(command, click.Group))]


def typed(*words: str) -> Result:
    """Nothing is there to be asked: what gets so far fails another way."""
    return CliRunner(env={"DATABASE_URL": "postgresql://127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1"}).invoke(
        main, words
    )


def options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option) and not one.multiple and not one.is_flag]


@pytest.mark.parametrize("group", EVERY_GROUP, ids=lambda group: str(group.name))
def test_an_option_that_is_there_twice_is_refused(group: click.Group) -> None:
    path = [] if group is main else [str(group.name)]
    ctx = click.Context(group)
    tried = 0
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command
        for option in options(command):
            found = typed(*path, name, option.opts[0], "1", option.opts[0], "2")

            assert found.exit_code == 2, (name, option.name)
            assert f"Error: {option.opts[0]} is there 2 times; give it once" in found.output
            tried += 1
    assert tried or group.name in {"dead-letters", "export"}


@pytest.mark.parametrize(
    "words",
    [
        ("place-order", "--orderid", "o", "--lines", "[]", "--mode", "partial", "--location", "a", "--location", "b"),
        ("create-batch", "--ref", "b", "--sku", "S", "--qty", "1", "--dry-run", "--dry-run"),
    ],
)
def test_what_may_be_repeated_may_be(words: tuple[str, ...]) -> None:
    assert "times" not in typed(*words).output


@pytest.mark.parametrize("number", ["1_000", " 5", "5 ", "٥", "５", "1e3", "0x10", "5.0", ""])
def test_a_number_is_of_plain_digits(number: str) -> None:
    for words in (
        ("create-batch", "--ref", "b", "--sku", "S", "--qty", number),
        ("explain", "S", number),
        ("orders", "--limit", number),
        ("run", "--port", number),
    ):
        found = typed(*words)

        assert (found.exit_code, f"{number!r} is not a valid integer" in found.output) == (2, True), words


def test_a_number_may_have_a_sign() -> None:
    assert "is not a valid integer" not in typed("explain", "S", "+5").output


@pytest.mark.parametrize(
    "command",
    [
        ["holds"],
        ["backorders"],
        ["at-risk"],
        ["orders", "--sku"],
        ["watch", "--sku"],
        ["watch", "--order"],
        ["availability"],
    ],
)
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "should have at least 1 character, not ''"),
        (" LAMP", "must not begin or end with a space, not ' LAMP'"),
        ("CH\udcc4IR", "unable to parse raw data as a unicode string, not 'CH\\udcc4IR'"),
        ("L" * 256, "should have at most 255 characters, not 'LLL"),
    ],
    ids=["empty", "with a space", "not in UTF-8", "too long"],
)
def test_a_name_that_nothing_can_have_is_not_looked_for(command: list[str], name: str, rule: str) -> None:
    found = typed(*command, name)

    assert found.exit_code == 2
    assert rule in found.output
