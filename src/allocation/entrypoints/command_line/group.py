"""How the `allocation` command shows its subcommands, and what it makes of failures."""

from __future__ import annotations

import logging
from typing import Any

import click

from allocation.config import SettingError
from allocation.redaction import without_secrets
from embedded import EmbeddedServersError
from messaging.errors import Unavailable

log = logging.getLogger(__name__)

SECTIONS: dict[str, tuple[str, ...]] = {
    "Running": ("run", "serve", "relay", "consume", "migrate"),
    "Stock": ("import", "export"),
    "Looking": ("status", "watch", "demo", "catalogue"),
    "Repairing": ("check", "dead-letters"),
    "Doors": ("keys",),
}
"""What is in none of them is listed last."""


class CommandLine(click.Group):
    """Turns failures into one line and exit code 1. What works for long, and fails for its own sake, says where."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingError, Unavailable, EmbeddedServersError) as error:
            raise click.ClickException(without_secrets(str(error))) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.invoked_subcommand in SECTIONS["Running"]:
                raise
            log.debug("a fault", exc_info=True)
            raise click.ClickException(f"{without_secrets(_in_a_line(error))} (LOG_LEVEL=DEBUG shows where)") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        left = dict(self.commands)
        for title, names in SECTIONS.items():
            _list(formatter, title, {name: left.pop(name) for name in names if name in left})
        _list(formatter, "More", left)


def _list(formatter: click.HelpFormatter, title: str, commands: dict[str, click.Command]) -> None:
    if rows := [(name, command.get_short_help_str(90)) for name, command in commands.items() if not command.hidden]:
        with formatter.section(title):
            formatter.write_dl(rows)


def _in_a_line(error: Exception) -> str:
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, DBAPIError):
        return f"database: {' '.join(str(error.orig).split())}"
    if isinstance(error, OSError):
        return str(error)
    said = " ".join(str(error).split())
    return f"a fault in the program, {type(error).__name__}: {said}"
