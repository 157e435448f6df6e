"""The `allocation` command. A subcommand imports what it needs when it runs, so that each starts quickly."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import socket
import ssl
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event

import click

from allocation.config import Settings
from allocation.entrypoints.bulk.commands import export, import_
from allocation.entrypoints.command_line.addresses import written_down
from allocation.entrypoints.command_line.availability import availability
from allocation.entrypoints.command_line.backing_services import backing_services
from allocation.entrypoints.command_line.catalogue import catalogue
from allocation.entrypoints.command_line.check import check, note_old_names
from allocation.entrypoints.command_line.completion import completion
from allocation.entrypoints.command_line.dead_letters import dead_letters
from allocation.entrypoints.command_line.group import CommandLine
from allocation.entrypoints.command_line.keys import keys
from allocation.entrypoints.command_line.looking import at_risk, backorders, batches, explain, holds, order, orders
from allocation.entrypoints.command_line.output import go_on_unheard, in_json, json_option
from allocation.entrypoints.command_line.parameters import Number
from allocation.entrypoints.command_line.status import status
from allocation.entrypoints.command_line.watch import watch
from allocation.entrypoints.demo.command import demo
from allocation.observability.metrics_folder import metrics_folder


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="allocation", prog_name="allocation")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Promise stock to order lines: warehouse first, then the earliest delivery. Never oversells, never loses an event.

    Settings come from the environment: DATABASE_URL, DATABASE_POOLER_URL, DATABASE_POOLER_PREPARES, REDIS_URL,
    EVENTS_STAY, SMTP_URL, MAIL_FROM, MAIL_TO, TIME_ZONE, REPLY_STREAMS, ALLOCATION_HOME, HOST, PORT, TLS_CERTIFICATE,
    TLS_KEY, FORWARDED_ALLOW_IPS, WEB_CONCURRENCY, API_KEYS, RATE_LIMIT, LOG_LEVEL, LOG_FORMAT,
    OTEL_EXPORTER_OTLP_ENDPOINT.
    Without URLs, commands use servers of their own under ALLOCATION_HOME.

    Results go to standard output, with --json as JSON; logs, progress and errors to standard error. Exit status: 0 when
    all is done or fine, 1 when something failed or needs a person, 2 when a command or option is not understood, 130
    after Ctrl-C; that of run, serve, relay, consume and watch, which go on until then, is 0.
    """
    from allocation.observability.logs import configure_logging

    atexit.register(gc.freeze)  # a process that has nothing to collect at its end is gone in a tenth of the time
    settings = Settings.from_env(os.environ)
    configure_logging(settings.log_level, settings.log_format)
    ctx.obj = settings
    if ctx.invoked_subcommand not in ("watch", "export"):  # which end when nobody reads them any more
        go_on_unheard()


main.add_command(import_)
main.add_command(export)
main.add_command(dead_letters)
main.add_command(status)
main.add_command(watch)
main.add_command(explain)
main.add_command(availability)
main.add_command(backorders)
main.add_command(holds)
main.add_command(at_risk)
main.add_command(orders)
main.add_command(order)
main.add_command(batches)
main.add_command(demo)
main.add_command(check)
main.add_command(completion)
main.add_command(catalogue)
main.add_command(keys)

_LOOK_AT_NAMES = 2_000
"""Milliseconds, so that no start waits for it; `check` looks at all of them."""

port_option = click.option("--port", type=Number(1, 65535), help="Port of the API.  [default: PORT, or 5005]")
workers_option = click.option(
    "--workers", type=Number(1, 1000), help="API processes.  [default: WEB_CONCURRENCY, or 2]"
)
threads_option = click.option(
    "--threads", type=Number(1, 1000), default=32, show_default=True, help="Threads in each API process."
)


@main.command()
@port_option
@workers_option
@threads_option
@json_option("Say where everything is, once it is ready, as a JSON object.")
@click.pass_obj
def run(settings: Settings, port: int | None, workers: int | None, threads: int, as_json: bool) -> None:
    """Run the whole service: migrate, then API, relay and consumer, until Ctrl-C."""
    from allocation.entrypoints.command_line.announcement import Announcement
    from allocation.entrypoints.command_line.processes import Part, Processes
    from allocation.entrypoints.http.key_check import require_keys

    click.get_current_context().with_resource(metrics_folder())
    settings = replace(settings, port=port or settings.port, workers=workers or settings.workers)
    _require_free_address(settings)
    stop = _stop_on_signals()
    with backing_services(settings) as around:
        settings = around.settings
        require_keys(settings, migrate_first=True)
        click.get_current_context().with_resource(written_down(settings))
        parts = [  # all start at once: who comes before the migration is done waits for it
            Part(["migrate"], once=True, is_heard=not as_json),
            Part(["serve", "--threads", str(threads)]),
            Part(["consume"]),
            Part(["relay"]),  # ends last, so that it still carries out what the others brought
        ]
        announcement = Announcement(settings, around.products, as_json=as_json)

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
    from allocation.entrypoints.http.key_check import require_keys

    settings = replace(settings, port=port or settings.port, workers=workers or settings.workers)
    _require_free_address(settings)
    with backing_services(settings) as around:
        require_keys(around.settings)
        api_server.serve(around.settings, threads)


@main.command()
@click.pass_obj
def relay(settings: Settings) -> None:
    """Deliver what happened from the outbox: publish to Redis, send mail."""
    from allocation.entrypoints import outbox_relay
    from allocation.observers import observed

    with backing_services(settings) as around, closing(observed(around.settings)) as service:
        outbox_relay.run(service, _stop_on_signals())


@main.command()
@click.pass_obj
def consume(settings: Settings) -> None:
    """Take in what other systems say over Redis."""
    from allocation.entrypoints import redis_eventconsumer
    from allocation.observers import observed

    with backing_services(settings) as around, closing(observed(around.settings)) as service:
        redis_eventconsumer.run(service, _stop_on_signals())


@main.command()
@json_option("Print a JSON object.")
@click.pass_obj
def migrate(settings: Settings, as_json: bool) -> None:
    """Bring the database's schema up to date; safe when several do it at once."""
    from allocation.database import migrations
    from allocation.database.engine import short_lived_engine

    with backing_services(settings, with_redis=False) as around:
        revision = migrations.upgrade(around.settings.database_url)
        with short_lived_engine(around.settings.database_url) as engine:
            note_old_names(engine, patience=_LOOK_AT_NAMES)
    click.echo(in_json({"revision": revision}) if as_json else f"The schema is at revision {revision}.")


def _stop_on_signals() -> Event:
    """Set when the process is asked to end, by SIGTERM, Ctrl-C or its terminal, once or many times at once. `nohup` has
    a terminal's end ignored."""
    from allocation.entrypoints.tasks import set_by_signal

    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: set_by_signal(stop))
    return stop


def _require_free_address(settings: Settings) -> None:
    """Raises ClickException when the API could not listen there, or not with that certificate."""
    if settings.tls_certificate and settings.tls_key:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key, str)
        except OSError as error:
            raise click.ClickException(
                f"TLS_CERTIFICATE and TLS_KEY can't be used: {error.strerror or error}"
            ) from error
    if settings.socket:
        _clear_socket(settings.socket)
        return
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            message = f"can't listen on {where} ({error.strerror}); choose another with HOST, and --port or PORT"
            raise click.ClickException(message) from error


def _clear_socket(path: Path) -> None:
    """Removes one that a killed process has left. Raises ClickException when another process listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise click.ClickException(f"can't listen on {path}: there is no folder {path.parent}") from None
        except OSError as error:
            raise click.ClickException(
                f"can't listen on {path} ({error.strerror}); choose another with HOST"
            ) from error
        else:
            raise click.ClickException(f"can't listen on {path}: another process does; choose another with HOST")
