"""`allocation watch`: events as they happen, from the stream on which they are published."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from allocation.config import Settings
from allocation.durations import duration, in_short
from allocation.entrypoints.command_line.backing_services import running_services
from allocation.entrypoints.command_line.output import echo_json, in_json, json_option, printable
from allocation.entrypoints.command_line.parameters import Name, Number

if TYPE_CHECKING:
    from messaging.redis.tail import PublishedEvent, Tail

_PAUSE = 0.5
_EVER = timedelta(days=100_000)


class Duration(click.ParamType[timedelta]):
    """30s, 10m, 2h or 7d; no longer than can be taken from today."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            length = duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if length > _EVER:
            self.fail(f"{value!r} is longer than {in_short(_EVER)}", param, ctx)
        return length


@click.command(short_help="Events as they happen, one a line.")
@click.option(
    "--sku", type=Name(), metavar="SKU", help="Only events of this very SKU, not of those that begin with it."
)
@click.option("--order", "orderid", type=Name(), metavar="ORDERID", help="Only events of this very order.")
@click.option("--since", type=Duration(), metavar="10m", help="Begin with those of the last 30s, 10m, 2h or 7d.")
@click.option(
    "--follow/--no-follow",
    default=True,
    help="Wait for more, or end with what has happened, --since then or ever.  [default: follow]",
)
@click.option("--limit", type=Number(min=1), metavar="N", help="End after N events.")
@json_option("Print each as a CloudEvent in JSON, as it is in the stream.")
@click.pass_obj
def watch(
    settings: Settings,
    *,
    sku: str | None,
    orderid: str | None,
    since: timedelta | None,
    follow: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show events as they happen, one a line, until Ctrl-C.

    They are read from the Redis stream allocation.events, each once and none passed over, also when Redis restarts
    meanwhile, or loses the stream and gets it again. The time is that of the event, not of its publication.

    Exit status: 0, also after Ctrl-C and when nobody reads the output any more; 1 when there is no Redis at first.
    """
    from allocation.domain.names import forms

    skus, orderids = (forms(name) if name else None for name in (sku, orderid))
    try:
        for entry in _limited(_wanted(_entries(settings, skus, since, follow=follow), skus, orderids), limit):
            _print(entry, as_json)
    except KeyboardInterrupt:
        return


def _entries(
    settings: Settings, skus: list[str] | None, since: timedelta | None, *, follow: bool
) -> Iterator[PublishedEvent]:
    """Until nobody reads what we print, or, unless we `follow`, up to what was there.

    Raises Unavailable when Redis is not there at first.
    """
    from allocation.adapters.redis_channels import EVENTS
    from messaging.redis.client import redis_client
    from messaging.redis.tail import Tail

    if since is not None and since > settings.events_stay:
        kept = in_short(settings.events_stay)
        click.echo(f"only the last {kept} are kept (EVENTS_STAY): older events may be missing", err=True)
    settings = running_services(settings)
    if not settings.redis_url:
        raise click.ClickException(f"no servers run in {settings.home}: start them with `allocation run`")
    tail = Tail(redis_client(settings.redis_url), EVENTS, subject=skus[0] if skus and len(skus) == 1 else None)
    tail.start(_EVER if since is None and not follow else since)
    while not (_nobody_reads() or (tail.is_past_what_was_there and not follow)):
        yield from _read(tail)


def _read(tail: Tail) -> list[PublishedEvent]:
    from messaging.errors import Unavailable

    try:
        return tail.read()
    except Unavailable as error:
        click.echo(f"{error}; trying again", err=True)
    while True:
        time.sleep(_PAUSE)
        try:
            entries = tail.read(wait=0.001)
        except Unavailable:
            continue
        click.echo("redis is back", err=True)
        return entries


def _wanted(
    entries: Iterator[PublishedEvent], skus: list[str] | None, orderids: list[str] | None
) -> Iterator[PublishedEvent]:
    for entry in entries:
        event = entry.event or {}
        data = event.get("data")
        is_of_order = not orderids or (isinstance(data, dict) and data.get("orderid") in orderids)
        if is_of_order and (not skus or event.get("subject") in skus):
            yield entry


def _limited(entries: Iterator[PublishedEvent], limit: int | None) -> Iterator[PublishedEvent]:
    for number, entry in enumerate(entries, start=1):
        yield entry
        if number == limit:
            return


def _print(entry: PublishedEvent, as_json: bool) -> None:
    if not as_json:
        click.echo(_line(entry), color=False if os.environ.get("NO_COLOR") else None)
    elif entry.event is None:
        click.echo(f"entry {entry.id} is no CloudEvent", err=True)
    else:
        echo_json(entry.event)
    sys.stdout.flush()


def _line(entry: PublishedEvent) -> str:
    from allocation.entrypoints.command_line.event_lines import colour_of, event_in, in_a_line, moment_of

    if entry.event is None:
        return f"--:--:-- {printable(entry.body.decode(errors='backslashreplace'))}, which is no CloudEvent"
    moment = click.style(moment_of(entry.event, datetime.now().astimezone()), dim=True)
    event = event_in(entry.event)
    if event is None:
        described = f"{entry.event.get('type')} {in_json(entry.event.get('data'))}"
        return f"{moment} {printable(described)}, which this release does not know"
    return f"{moment} {click.style(printable(in_a_line(event)), fg=colour_of(event))}"


def _nobody_reads() -> bool:
    """Whether the other end of a pipe is closed, which else only the next line would find out."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLERR)
        return any(found & select.POLLERR for _, found in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll on this system; no file behind stdout
        return False
