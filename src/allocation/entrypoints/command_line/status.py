"""`allocation status`: all there is to see, on one screen, and whether a person is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from allocation.config import Settings
from allocation.entrypoints.command_line.addresses import running_api_url
from allocation.entrypoints.command_line.backing_services import running_services
from allocation.entrypoints.command_line.output import echo_json, echo_tables, json_option

if TYPE_CHECKING:
    from allocation.overview import Overview


@click.command(short_help="Servers, lag, stock and dead letters on one screen.")
@json_option("Print one JSON object.")
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show servers, lag, stock and dead letters on one screen, and whether a person is needed.

    The API is looked for where `allocation run` says that it is, or else at HOST and PORT. Nothing is started or
    changed, and little is read, so it may be asked every few seconds. Counts stop at 200,000, those of SKUs in the
    outbox at 20,000; what is not counted to its end is marked with a +.

    Exit status: 0 when all is fine, 1 when something needs a person. Then the last lines say what, and what helps.
    """
    from allocation.entrypoints.command_line.status_screen import WIDE, as_object, screen
    from allocation.overview import problems

    settings = running_services(settings)
    overview = _look(settings)
    found = problems(overview)
    if as_json:
        echo_json(as_object(settings, overview, found))
    else:
        echo_tables(*screen(settings, overview, found), width=WIDE)
    if found:
        raise SystemExit(1)


def _look(settings: Settings) -> Overview:
    from allocation.database.engine import database_engine
    from allocation.overview import look
    from messaging.redis.client import redis_client
    from messaging.sql.limits import Limits

    limits = Limits(statement_timeout=3_000, lock_timeout=1_000)
    engine = database_engine(settings.database_url, 1, limits=limits) if settings.database_url else None
    client = redis_client(settings.redis_url) if settings.redis_url else None
    return look(engine, client, running_api_url(settings), time_zone=settings.time_zone)
