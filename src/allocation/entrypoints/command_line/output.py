"""Results for programs: a command that has any takes `--json`, and all print it alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(what: str) -> Callable[[F], F]:
    """`--json`, as the parameter `as_json`; the help says `what` is printed."""
    return click.option("--json", "as_json", is_flag=True, help=what)


def echo_json(said: object) -> None:
    click.echo(in_json(said))


def in_json(said: object) -> str:
    """In one line, in which a person can read all letters; a date is text."""
    return json.dumps(said, ensure_ascii=False, default=str)
