"""`allocation keys`: who may ask the API for what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from allocation.access.keys import NAME, Scope, StoredKey, beginning
from allocation.config import Settings
from allocation.entrypoints.command_line.os_user import login_name
from allocation.entrypoints.command_line.output import echo_json, echo_table, json_option
from allocation.entrypoints.command_line.parameters import Group, Number
from allocation.entrypoints.command_line.sessions import database

if TYPE_CHECKING:
    from datetime import datetime

    from allocation.access.sql_keys import SqlKeys

as_json_option = json_option("Print JSON, one key a line.")


@click.group(cls=Group)
def keys() -> None:
    """Create, list or revoke the keys of the API.

    Callers send them as `Authorization: Bearer KEY`. Only their hashes are kept.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="What it may do; may be given several times. `admin` may do everything.",
)
@click.option("--rate", type=Number(1, 1_000_000), help="Requests a second, in each API process.")
@as_json_option
@click.pass_obj
def create(settings: Settings, name: str, scopes: tuple[str, ...], rate: int | None, as_json: bool) -> None:
    """Create a key, and show it this once.

    The key goes to stdout and all else to stderr, so that KEY=$(allocation keys create ...) takes it.
    """
    from allocation.access.sql_keys import NameTaken

    if not NAME.fullmatch(name):
        raise click.UsageError(
            f"NAME is {name!r}; expected up to 63 letters, digits and . _ -, the first a letter or digit"
        )
    with _stored_keys(settings) as stored_keys:
        try:
            key, stored = stored_keys.create(name, map(Scope, scopes), rate=rate, by=login_name())
        except NameTaken:
            message = f"there is a key {name!r}, or was; a name is given once, since the event log keeps it"
            raise click.ClickException(message) from None
    if as_json:
        echo_json(_fields(stored) | {"key": key})
        return
    click.echo(key)
    click.echo(f"This is the key {name!r}, for {', '.join(stored.scopes)}. It is not shown again.", err=True)


@keys.command("list")
@as_json_option
@click.pass_obj
def list_keys(settings: Settings, as_json: bool) -> None:
    """List them, the oldest first; the revoked too."""
    with _stored_keys(settings) as stored_keys:
        found = stored_keys.all()
    if as_json:
        for stored in found:
            echo_json(_fields(stored))
    elif found:
        echo_table(["name", "begins with", "scopes", "rate", "created", "by", "revoked"], map(_cells, found))
    else:
        click.echo("There are no keys.")


@keys.command()
@click.argument("name")
@as_json_option
@click.pass_obj
def revoke(settings: Settings, name: str, as_json: bool) -> None:
    """Revoke a key for good; safe to repeat."""
    from allocation.access.key_cache import REVOCATION_DELAY

    with _stored_keys(settings) as stored_keys:
        stored = stored_keys.revoke(name, by=login_name())
    if stored is None:
        raise click.ClickException(f"there is no key {name!r}; see `allocation keys list`")
    if as_json:
        echo_json(_fields(stored))
        return
    click.echo(f"The key {name!r} is revoked. Within {REVOCATION_DELAY:.0f} seconds no process takes it any more.")


@contextmanager
def _stored_keys(settings: Settings) -> Iterator[SqlKeys]:
    from allocation.access.sql_keys import SqlKeys
    from messaging.sql.connections import Database

    with database(settings) as engine:
        yield SqlKeys(Database(engine))


def _cells(stored: StoredKey) -> list[str]:
    rate = f"{stored.rate}/s" if stored.rate else ""
    revoked = _day(stored.revoked_at) if stored.revoked_at else ""
    scopes = ", ".join(stored.scopes)
    return [stored.name, beginning(stored.id), scopes, rate, _day(stored.created_at), stored.created_by, revoked]


def _fields(stored: StoredKey) -> dict[str, Any]:
    return {
        "name": stored.name,
        "id": stored.id,
        "scopes": stored.scopes,
        "rate": stored.rate,
        "created_at": stored.created_at.isoformat(),
        "created_by": stored.created_by,
        "revoked_at": stored.revoked_at and stored.revoked_at.isoformat(),
        "revoked_by": stored.revoked_by,
    }


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
