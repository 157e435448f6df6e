"""`allocation dead-letters`: what was given up, and what to do about it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from allocation.config import Settings
from allocation.entrypoints.command_line import sessions
from allocation.entrypoints.command_line.os_user import login_name, user_principal
from allocation.entrypoints.command_line.output import echo_json, echo_table, in_json, json_option, printable
from allocation.entrypoints.command_line.parameters import Group

if TYPE_CHECKING:
    from datetime import datetime

    from allocation.bootstrap import Service
    from messaging.sql.dead_letters import DeadLetter

as_json_option = json_option("Print JSON, one letter a line.")
all_option = click.option("--all", "every", is_flag=True, help="All of them, the oldest first.")


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """List, show, retry or drop what could not be handled.

    A message from outside is dead when it can't be read or is refused; an effect, when it keeps failing for its own
    sake. Later effects of the same SKU wait behind a dead one.
    """


@dead_letters.command("list")
@as_json_option
@click.pass_obj
def list_letters(settings: Settings, as_json: bool) -> None:
    """List them, the oldest first."""
    with sessions.service(settings, connections=2) as service:
        found = _all(service)
    if as_json:
        for letter in found:
            echo_json(_fields(letter))
    elif found:
        rows = ([one.id, str(one.attempts), _second(one.last_failed_at), one.reason] for one in found)
        echo_table(["id", "attempts", "last failed", "reason"], rows)
    else:
        click.echo("There are no dead letters.")


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@as_json_option
@click.pass_obj
def show(settings: Settings, letter_id: str, as_json: bool) -> None:
    """Show one, whole."""
    with sessions.service(settings, connections=2) as service:
        letter = _find(service, letter_id)
    if as_json:
        echo_json(_fields(letter))
        return
    for name, value in _fields(letter).items():
        click.echo(f"{name.replace('_', ' '):16} {printable(str(value))}")


@dead_letters.command()
@click.argument("letter_id", metavar="ID", required=False)
@all_option
@as_json_option
@click.pass_obj
def retry(settings: Settings, letter_id: str | None, every: bool, as_json: bool) -> None:
    """Try one again; safe to repeat. Exit code 1 when a message is refused again, or still at work."""
    from allocation.entrypoints import inbound
    from messaging.sql.dead_letters import DeadEffect

    all_settled = True
    with sessions.service(settings, connections=2) as service:
        for letter in _chosen(service, letter_id, every):
            if isinstance(letter, DeadEffect):
                service.dead_letters.retry_effect(letter)
                _say(letter, "the relay will try again", as_json)
            elif unsettled := inbound.retry(service, letter, user_principal()):
                all_settled = False
                _say(letter, unsettled.reason, as_json)
            else:
                _say(letter, "handled", as_json)
    if not all_settled:
        raise SystemExit(1)


@dead_letters.command()
@click.argument("letter_id", metavar="ID", required=False)
@all_option
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@as_json_option
@click.pass_obj
def drop(settings: Settings, *, letter_id: str | None, every: bool, yes: bool, as_json: bool) -> None:
    """Give one up for good; the effects that wait behind it go on."""
    from messaging.sql.dead_letters import DeadEffect

    with sessions.service(settings, connections=2) as service:
        letters = _chosen(service, letter_id, every)
        if every and letters and not yes:
            _ask(letters)
        for letter in letters:
            if isinstance(letter, DeadEffect):
                service.dead_letters.drop_effect(letter, by=login_name())
            else:
                service.dead_letters.resolve(letter)
            _say(letter, "dropped", as_json)


def _ask(letters: list[DeadLetter]) -> None:
    """Whether all shall go, of somebody who is there to say so."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"--all drops {len(letters):,} for good; say --yes, too")
    click.confirm(f"Drop {len(letters):,} dead letters for good?", abort=True, err=True)


def _say(letter: DeadLetter, outcome: str, as_json: bool) -> None:
    row = {"id": letter.id, "outcome": outcome}
    click.echo(in_json(row) if as_json else printable(f"{letter.id}: {outcome}"))


def _all(service: Service) -> list[DeadLetter]:
    return [*service.dead_letters.messages(), *service.dead_letters.effects()]


def _find(service: Service, letter_id: str) -> DeadLetter:
    letter = service.dead_letters.find(letter_id)
    if letter is None:
        raise click.ClickException(f"there is no dead letter {letter_id}; see `allocation dead-letters list`")
    return letter


def _chosen(service: Service, letter_id: str | None, every: bool) -> list[DeadLetter]:
    if every == (letter_id is not None):
        raise click.UsageError("give either an ID or --all")
    return _all(service) if letter_id is None else [_find(service, letter_id)]


def _second(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _fields(letter: DeadLetter) -> dict[str, Any]:
    fields = {"id": letter.id} | asdict(letter)
    for name in ("first_failed_at", "last_failed_at"):
        fields[name] = fields[name].isoformat()
    if "body" in fields:
        fields["body"] = fields["body"].decode("utf-8", errors="backslashreplace")
    return fields
