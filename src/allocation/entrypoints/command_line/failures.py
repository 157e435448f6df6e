"""How a command ends: the message of a failure, in one line, and the exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from allocation.config import Settings, whichever_is_set
from messaging.errors import BrokerUnavailable, Unavailable

INTERRUPTED = 130
"""The exit status after Ctrl-C, as of shells."""


def exit_status(run: Callable[[], object]) -> int:
    """Of a command that click runs, once its failure is said."""
    try:
        status = run()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        click.echo(f"Error: {_with_help(error)}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    finally:
        _drop_what_can_not_be_written()
    return status if isinstance(status, int) else 0


def was_interrupted(error: BaseException) -> bool:
    """Whether it is what became of Ctrl-C, where that was pressed within a statement."""
    seen: BaseException | None = error
    while seen and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__context__
    return seen is not None


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Gives what raises KeyboardInterrupt, between two steps, if Ctrl-C was pressed before.

    Python raises it at once, but where that is in a finalizer or in a weak reference's callback it is swallowed.
    """
    is_pressed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_pressed
        is_pressed = True
        signal.default_int_handler(number, frame)

    def go_on() -> None:
        if is_pressed:
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # a shell may have it ignored
        yield go_on
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield go_on
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def with_setting(error: Unavailable, settings: Settings | None) -> str:
    """What is unavailable, and by which setting we looked for it, if that is where it may be wrong."""
    text = str(error)
    if settings and settings.redis_url and isinstance(error, BrokerUnavailable):
        return f"{text.rstrip('.')}; see {whichever_is_set('REDIS_URL', 'REDIS_HOST')}"
    if settings and settings.database_url and _is_no_connection(error):
        return f"{text}; see {whichever_is_set('DATABASE_URL', 'DB_HOST')}"
    return text


def fault_in_a_line(error: Exception) -> str:
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, DBAPIError):
        return f"database: {' '.join(str(error.orig).split())}"
    if isinstance(error, OSError):
        return str(error)
    text = " ".join(str(error).split())
    return f"a fault in the program, {type(error).__name__}: {text}"


def _with_help(error: click.UsageError) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    if error.ctx is None:
        return text
    return f"{text}{' Or' if text.endswith('?') else ';'} see {error.ctx.command_path} --help"


def _is_no_connection(error: BaseException | None) -> bool:
    """Whether it comes of a connection that there is not, of which a server has nothing to say."""
    from psycopg import OperationalError

    while error:
        original = getattr(error, "orig", error)  # SQLAlchemy's has the driver's
        if isinstance(original, OperationalError):
            return original.sqlstate is None
        error = error.__cause__
    return False


def _drop_what_can_not_be_written() -> None:
    """Else Python would try again at the very end, complain, and end with a status of its own."""
    if sys.stdout.closed:  # by who wrote to it
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
