"""`allocation demo`: a newcomer sees what the service does before having read anything."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from allocation.config import Settings
from allocation.entrypoints.command_line.addresses import running_api_url, without_password
from allocation.entrypoints.command_line.backing_services import running_services
from allocation.entrypoints.command_line.failures import INTERRUPTED
from allocation.entrypoints.command_line.output import echo_json, json_option

if TYPE_CHECKING:
    from allocation.entrypoints.demo.story import TradingDay

_TO_READ = 2.5
"""Seconds, before something is done and after it."""

_UNTIL_THE_MAIL_IS_THERE = 5.0


class Url(click.ParamType[str]):
    """Of HTTP, with a host."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parts = urlsplit(value)
            is_readable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_readable = False
        if not is_readable:
            self.fail(f"{value!r} is no URL such as http://127.0.0.1:5005", param, ctx)
        return value


@click.command(short_help="Play a small trading day against a running service.")
@click.option(
    "--url",
    type=Url(),
    metavar="URL",
    help="Where the API is.  [default: that of `allocation run`, or http://HOST:PORT]",
)
@click.option("--fast", is_flag=True, help="Do not wait for a person to read along.")
@json_option("Print JSON, one scene a line.")
@click.pass_obj
def demo(settings: Settings, url: str | None, fast: bool, as_json: bool) -> None:
    """Play a small trading day against a running service: orders, a batch that shrinks, a short delivery, a parcel, a
    return, and a table that is sold out.

    It speaks HTTP and Redis, as any client would, and says before each step what will happen and afterwards what did.
    SKUs, batches and orders have names of their own, so it can be played again and again; what it leaves behind stays.
    The key for the API, where one is asked for, is taken from ALLOCATION_API_KEY.

    Exit status: 0 when all came true, 1 when it did not, or when there is no service.
    """
    from allocation.adapters.redis_channels import EVENTS
    from allocation.entrypoints.demo.client import DemoClient
    from allocation.entrypoints.demo.story import NotAsTold, TradingDay
    from messaging.redis.client import redis_client
    from messaging.redis.tail import Tail

    begun = time.time()
    settings = running_services(settings)
    with redis_client(settings.redis_url or "redis://") as broker:
        client = DemoClient(url or running_api_url(settings), broker, os.environ.get("ALLOCATION_API_KEY", ""))
        found = client.require_service()
        if not settings.redis_url:
            raise click.ClickException(f"the service at {client.url} is there; name its Redis in REDIS_URL, too")
        client.require_same_redis(found)
        events = Tail(broker, EVENTS)
        events.start()
        day = TradingDay(client, events)
        try:
            _play(day, as_json, pause=0 if fast or as_json else _TO_READ)
        except NotAsTold as error:
            raise click.ClickException(f"that is not how the story goes. {error}") from error
        except KeyboardInterrupt:
            click.echo("\nThe day ends early. What was done stays.", err=True)
            raise SystemExit(INTERRUPTED) from None
    mail = _where_the_mail_is(settings, day.table, begun)
    commands = _what_to_try(client.url, day)
    if as_json:
        echo_json({"came_true": True, "next": commands, "mail": mail})
    else:
        click.secho("\nLook at it yourself:", bold=True)
        for command in commands:
            click.echo(f"  {command}")
        click.echo(f"The mail: {mail}")


def _play(day: TradingDay, as_json: bool, pause: float) -> None:
    scenes = day.scenes()
    for number, scene in enumerate(scenes, start=1):
        if as_json:
            played = {"scene": number, "of": len(scenes), "what": scene.what, "then": list(scene.play())}
            echo_json(played)
            continue
        click.echo(f"\n{click.style(f'{number}/{len(scenes)}', dim=True)} {click.style(scene.what, bold=True)}")
        time.sleep(pause)
        for line in scene.play():
            click.secho(f"    {line}", fg="green")
        time.sleep(pause)


def _what_to_try(url: str, day: TradingDay) -> list[str]:
    key = ' -H "Authorization: Bearer $ALLOCATION_API_KEY"' if os.environ.get("ALLOCATION_API_KEY") else ""
    us = _our_name()
    return [
        f"curl -sS{key} {url}/v1/orders/{day.anna}",
        f"{us} watch --since 10m --sku {day.lamp}",
        f"{us} status",
        f"{us} check",
    ]


def _our_name() -> str:
    """How this command is typed here."""
    if shutil.which("allocation"):
        return "allocation"
    here, typed = Path.cwd(), Path(sys.argv[0]).absolute()
    return shlex.quote(str(typed.relative_to(here) if typed.is_relative_to(here) else typed))


def _where_the_mail_is(settings: Settings, sku: str, begun: float) -> str:
    """The service may have other settings than we; so a file is named only when it is there."""
    if settings.smtp_url:
        return f"sent to {settings.mail_to} by {without_password(settings.smtp_url)}"
    folder = settings.home / "mail"
    give_up = time.monotonic() + _UNTIL_THE_MAIL_IS_THERE
    while settings.home.is_dir() and time.monotonic() < give_up:
        for file in folder.glob("*.eml"):
            if file.stat().st_mtime >= begun - 1 and sku in file.read_text("utf-8", errors="replace"):
                return str(file)
        time.sleep(0.1)
    return f"sent to {settings.mail_to} where the service's SMTP_URL says, or a file in {folder}"
