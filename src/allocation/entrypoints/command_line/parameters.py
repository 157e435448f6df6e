"""What options and arguments keep to, as bodies and queries do over HTTP: each option is there once, a number is of
plain digits, and a name is one that something may have."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import click

_DIGITS = re.compile(r"[+-]?[0-9]+")


class Number(click.IntRange):
    """Python would also read `1_000`, blanks around it, digits of other scripts, and more than anything counts to."""

    def __init__(self, min: int | None = None, max: int = 2**31 - 1) -> None:  # noqa: A002 - click's names
        super().__init__(min, max)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not _DIGITS.fullmatch(value):
            self.fail(f"{value!r} is not a valid integer.", param, ctx)
        return super().convert(value, param, ctx)


class Name(click.ParamType[str]):
    """Of what is looked for, in the form in which it is kept. None may be empty: that would be everything."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from allocation.validation import BadInput, name_looked_for

        try:
            return name_looked_for(value)
        except BadInput as error:
            self.fail(str(error), param, ctx)


class Group(click.Group):
    """Refuses an option that is there twice, of which the last would win."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command and not (isinstance(command, click.Group) or ctx.resilient_parsing or {"-h", "--help"} & {*rest}):
            _require_each_once(command.context_class(command, parent=ctx, info_name=name), rest)
        return name, command, rest


def _require_each_once(ctx: click.Context, args: list[str]) -> None:
    try:
        _, _, order = ctx.command.make_parser(ctx).parse_args(list(args))
    except click.UsageError:  # which is said when it is parsed in earnest
        return
    for parameter, times in Counter(order).items():
        if times > 1 and isinstance(parameter, click.Option) and not (parameter.multiple or parameter.is_flag):
            raise click.UsageError(f"{parameter.opts[0]} is there {times} times; give it once.", ctx)
