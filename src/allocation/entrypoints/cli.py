"""The `allocation` command. A subcommand imports what it needs when it runs, so that each starts quickly."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from allocation.adapters.metrics_folder import metrics_folder
from allocation.config import SettingError, Settings
from allocation.discretion import without_secrets
from allocation.entrypoints.catalogue_command import catalogue
from allocation.entrypoints.csv_commands import export, import_
from allocation.entrypoints.dead_letter_commands import dead_letters
from allocation.entrypoints.key_commands import keys
from allocation.entrypoints.surroundings import surroundings
from allocation.logs import configure_logging
from embedded import EmbeddedServersError
from messaging.errors import Unavailable

if TYPE_CHECKING:
    from allocation.bootstrap import Service


class CommandLine(click.Group):
    """Turns the failures that a person can do something about into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingError, Unavailable, EmbeddedServersError) as error:
            raise click.ClickException(without_secrets(str(error))) from error


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="allocation")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Promise stock to order lines: warehouse first, then the earliest delivery. Never oversells, never loses an event.

    Settings come from the environment: DATABASE_URL, DATABASE_POOLER_URL, DATABASE_POOLER_PREPARES, REDIS_URL,
    SMTP_URL, ALLOCATION_HOME, HOST, PORT, WEB_CONCURRENCY, API_KEYS, RATE_LIMIT, LOG_LEVEL, LOG_FORMAT. Without
    URLs, commands use servers of their own under ALLOCATION_HOME.
    """
    atexit.register(gc.freeze)  # a process that has nothing to collect at its end is gone in a tenth of the time
    settings = Settings.from_env(os.environ)
    configure_logging(settings.log_level, settings.log_format)
    ctx.obj = settings


main.add_command(import_)
main.add_command(export)
main.add_command(dead_letters)
main.add_command(catalogue)
main.add_command(keys)

port_option = click.option("--port", type=click.IntRange(1, 65535), help="Port of the API.  [default: PORT, or 5005]")
workers_option = click.option(
    "--workers", type=click.IntRange(1, 1000), help="API processes.  [default: WEB_CONCURRENCY, or 2]"
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1000), default=8, show_default=True, help="Threads in each API process."
)


@main.command()
@port_option
@workers_option
@threads_option
@click.pass_obj
def run(settings: Settings, port: int | None, workers: int | None, threads: int) -> None:
    """Run the whole service: migrate, then API, relay and consumer, until Ctrl-C."""
    from allocation.entrypoints.announcement import Announcement
    from allocation.entrypoints.key_check import require_keys
    from allocation.entrypoints.processes import Part, Processes

    click.get_current_context().with_resource(metrics_folder())
    settings = replace(settings, port=port or settings.port, workers=workers or settings.workers)
    _refuse_taken_port(settings)
    stop = _stop_on_signals()
    with surroundings(settings) as around:
        settings = around.settings
        require_keys(settings, migrate_first=True)
        parts = [  # all start at once: who comes before the migration is done waits for it
            Part(["migrate"], once=True),
            Part(["serve", "--threads", str(threads)]),
            Part(["consume"]),
            Part(["relay"]),  # ends last, so that it still carries out what the others brought
        ]
        announcement = Announcement(settings, around.products)

        def each_round() -> None:
            around.look_after()
            announcement.make_when_ready()

        Processes(parts, settings.as_environment(os.environ)).run(stop, each_round)


@main.command()
@port_option
@workers_option
@threads_option
@click.pass_obj
def serve(settings: Settings, port: int | None, workers: int | None, threads: int) -> None:
    """Serve the HTTP API alone."""
    click.get_current_context().with_resource(metrics_folder())
    from allocation.entrypoints import api_server
    from allocation.entrypoints.key_check import require_keys

    settings = replace(settings, port=port or settings.port, workers=workers or settings.workers)
    _refuse_taken_port(settings)
    with surroundings(settings) as around:
        require_keys(around.settings)
        api_server.serve(around.settings, threads)


@main.command()
@click.pass_obj
def relay(settings: Settings) -> None:
    """Tell the outside what happened, from the outbox: Redis and mail."""
    from allocation.entrypoints import outbox_relay

    with _service(settings) as service:
        outbox_relay.run(service, _stop_on_signals())


@main.command()
@click.pass_obj
def consume(settings: Settings) -> None:
    """Take in what other systems say over Redis."""
    from allocation.entrypoints import redis_eventconsumer

    with _service(settings) as service:
        redis_eventconsumer.run(service, _stop_on_signals())


@main.command()
@click.pass_obj
def migrate(settings: Settings) -> None:
    """Bring the database's schema up to date; safe when several do it at once."""
    from allocation import migrations

    with surroundings(settings, with_redis=False) as around:
        revision = migrations.upgrade(around.settings.database_url)
    click.echo(f"The schema is at revision {revision}.")


@main.command()
@click.option("--all", "every", is_flag=True, help="List every difference, not just the first 100.")
@click.pass_obj
def check(settings: Settings, every: bool) -> None:
    """Prove that the books balance, while the service runs or not; exit 1 and say what differs if they do not."""
    from allocation.adapters.schema import require_current_schema
    from allocation.bootstrap import database_engine
    from allocation.check import balance

    with surroundings(settings, with_redis=False) as around:
        engine = database_engine(around.settings.database_url, connections=1)
        try:
            require_current_schema(engine)
            balanced = balance(engine, click.echo, most_listed=sys.maxsize if every else 100)
        finally:
            engine.dispose()
    if not balanced:
        raise SystemExit(1)


@contextmanager
def _service(settings: Settings) -> Iterator[Service]:
    from allocation.observers import observed

    with surroundings(settings) as around:
        service = observed(around.settings)
        try:
            yield service
        finally:
            service.close()


def _stop_on_signals() -> Event:
    """Set when the process is asked to end, by SIGTERM or Ctrl-C."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _refuse_taken_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            message = f"can't listen on {where} ({error.strerror}); choose another with HOST, and --port or PORT"
            raise click.ClickException(message) from error
