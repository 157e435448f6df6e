"""How the `allocation` command shows its subcommands, and what it makes of failures."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from allocation.config import SettingError
from allocation.entrypoints.command_line import failures
from allocation.entrypoints.command_line.parameters import Group
from allocation.observability.redaction import without_secrets
from embedded import EmbeddedServersError
from messaging.errors import Unavailable

log = logging.getLogger(__name__)

SECTIONS: dict[str, tuple[str, ...]] = {
    "Running": ("run", "serve", "relay", "consume", "migrate"),
    "Stock": (
        *("import", "export", "create-batch", "receive-batch", "change-eta", "change-batch-quantity", "count-batch"),
        *("quarantine", "release-quarantine", "write-off", "pull-forward"),
    ),
    "Orders": ("place-order", "change-line", "allocate", "release-line", "cancel-order", "dispatch", "return-line"),
    "Holds": ("place-hold", "confirm-hold", "extend-hold", "void-hold"),
    "Looking": (
        *("status", "batches", "orders", "order", "backorders", "at-risk", "holds", "availability", "explain"),
        *("watch", "demo", "catalogue"),
    ),
    "Repairing": ("check", "dead-letters"),
    "Authentication": ("keys",),
}
"""What is in none of them is listed last."""


class CommandLine(Group):
    """Turns failures into one line and exit code 1. What works for long, and fails for its own sake, says where."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or self._of_the_business().get(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._of_the_business()})

    def _of_the_business(self) -> dict[str, click.Command]:
        """Read off the table of messages, which others need not wait for."""
        from allocation.entrypoints.command_line.asking import commands

        return commands()

    def main(self, args: Sequence[str] | None = None, *more: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """With an exit status of ours, and not of click's, where it is to end the process."""
        run = partial(super().main, args, *more, standalone_mode=False, **options)
        if not standalone_mode:
            return run()
        sys.exit(failures.exit_status(run))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Which prints the help."""
        try:
            return super().parse_args(ctx, args)
        except BrokenPipeError:
            raise click.exceptions.Exit from None
        except OSError as error:
            raise click.ClickException(f"can't write the help: {error.strerror}") from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Unavailable as error:
            raise click.ClickException(without_secrets(failures.with_setting(error, ctx.obj))) from error
        except (SettingError, EmbeddedServersError) as error:
            raise click.ClickException(without_secrets(str(error))) from error
        except click.UsageError as error:
            error.ctx = error.ctx or self._context_of_subcommand(ctx)
            raise
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # who read the result has had enough of it
            raise click.exceptions.Exit from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(failures.INTERRUPTED) from None
        except Exception as error:
            if failures.was_interrupted(error):
                raise click.exceptions.Exit(failures.INTERRUPTED) from None
            if ctx.invoked_subcommand in SECTIONS["Running"]:
                raise
            log.debug("a fault", exc_info=True)
            text = without_secrets(failures.fault_in_a_line(error))
            raise click.ClickException(f"{text} (LOG_LEVEL=DEBUG shows where)") from error

    def _context_of_subcommand(self, ctx: click.Context) -> click.Context:
        """Which click does not name for an option without its value."""
        name = ctx.invoked_subcommand or ""
        command = self.get_command(ctx, name)
        return click.Context(command, parent=ctx, info_name=name) if command else ctx

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        left = {**self.commands, **self._of_the_business()}
        for title, names in SECTIONS.items():
            _list(formatter, title, {name: left.pop(name) for name in names if name in left})
        _list(formatter, "More", left)


def _list(formatter: click.HelpFormatter, title: str, commands: dict[str, click.Command]) -> None:
    if rows := [(name, command.get_short_help_str(90)) for name, command in commands.items() if not command.hidden]:
        with formatter.section(title):
            formatter.write_dl(rows)
