"""Each command of the business as a command of the command line, read off the table of messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, cast

import click

from allocation.config import Settings
from allocation.domain.commands import Allocate, ExtendHold, PlaceHold, PlaceOrder, PullForward
from allocation.domain.events import Event
from allocation.domain.lines import LineTerms
from allocation.entrypoints.command_line import sessions
from allocation.entrypoints.command_line.os_user import user_principal
from allocation.entrypoints.command_line.output import echo_json, json_option, printable
from allocation.entrypoints.command_line.parameters import Number
from allocation.service_layer.messages import COMMANDS
from allocation.service_layer.messages.table import (
    Choice,
    CommandRow,
    Day,
    Field,
    Flag,
    Names,
    Record,
    Several,
    Whole,
)
from messaging.envelope import DryRun, Metadata

if TYPE_CHECKING:
    from allocation.views import Moved, Views


def commands() -> dict[str, click.Command]:
    """By their names: `allocation.receive_batch.v1` is `receive-batch`."""
    return {_name(row): _command(row) for row in COMMANDS}


def _name(row: CommandRow[Any]) -> str:
    return row.name.split(".")[1].replace("_", "-")


def _command(row: CommandRow[Any]) -> click.Command:
    optional = {one.name for one in fields(row.kind) if one.default is not MISSING}
    options = [_option(name, field, required=name not in optional) for name, field in row.fields.items()]

    @click.pass_obj
    def ask(settings: Settings, /, *, dry_run: bool, as_json: bool, **given: Any) -> None:
        values = {name: value for name, value in given.items() if value is not None}
        _ask(settings, row, values, dry_run=dry_run, as_json=as_json)

    shown = json.dumps({name: value for name, value in row.example.items() if value is not None})
    text = f"{row.asks}\n\n{row.gives.replace('`', '')}\n\nAs a message on the command stream: {shown}"
    command = click.Command(_name(row), callback=ask, params=list(options), help=text, short_help=row.asks)
    dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would happen, and change nothing.")
    return dry_run_option(json_option("Print the result as JSON.")(command))


def _option(name: str, field: Field, *, required: bool) -> click.Option:
    wire = field.wire or name
    typed = wire.replace("_", "-")
    help_text = field.meaning
    kind: Any = str
    metavar = None
    further: dict[str, Any] = {}
    match field.limit:
        case Whole(least, most):
            kind, metavar = Number(least, most), "N"
        case Day():
            metavar = "YYYY-MM-DD"
        case Choice(words):
            kind = click.Choice(list(words))
        case Flag():
            kind, further = click.BOOL, {"is_flag": True, "default": None}
        case Names():
            typed, further = typed.removesuffix("s"), {"multiple": True, "callback": _as_list}
            help_text += " Repeatable."
        case Record() as record:
            kind, metavar = _Json(), "JSON"
            help_text += f" An object with {_parts(record)}."
        case Several(of):
            kind, metavar = _Json(), "JSON"
            help_text += f" A list of objects with {_parts(of)}."
        case _:
            pass
    return click.Option([f"--{typed}", wire], type=kind, required=required, metavar=metavar, help=help_text, **further)


def _as_list(_: click.Context, __: click.Parameter, given: Sequence[str]) -> list[str] | None:
    return list(given) or None


def _parts(record: Record) -> str:
    may_be_left_out = {one.name for one in fields(record.kind) if one.default is not MISSING}
    needed, others = [name for name in record.fields if name not in may_be_left_out], sorted(may_be_left_out)
    return ", ".join(needed) + (f", and {', '.join(others)} if there is one" if others else "")


class _Json(click.ParamType[Any]):
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from messaging.json_input import read_json

        try:
            return read_json(value)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)


def _ask(settings: Settings, row: CommandRow[Any], given: Mapping[str, Any], *, dry_run: bool, as_json: bool) -> None:
    from allocation.domain.errors import DomainError
    from allocation.validation import SCHEMAS, BadInput

    try:
        command = SCHEMAS[row.name].read_fields(given)
    except BadInput as error:
        raise click.UsageError(str(error)) from error
    with sessions.service(settings, connections=2) as service:
        ask = service.bus.dry_run if dry_run else service.bus.outcome
        outcome = ask(command, Metadata.first("command line", principal=user_principal()))
        try:
            result = outcome.unwrap()
        except DomainError as refusal:
            raise click.ClickException(str(refusal)) from refusal
        moved = service.views.moved(result) if _is_places(result) and not dry_run else []
        text = _in_words(service.views, command, result, outcome.changed)
    if isinstance(outcome, DryRun):
        _echo_dry_run(outcome, text, as_json=as_json)
    elif as_json:
        echo_json({"result": result, "changed": outcome.changed, "moved": moved})
    else:
        click.echo("\n".join([text, *map(_outcome_of, moved)]))


def _echo_dry_run(found: DryRun, text: str, *, as_json: bool) -> None:
    from allocation.adapters.wire_names import CLOUD_EVENTS
    from allocation.entrypoints.command_line.event_lines import in_a_line

    if as_json:
        events = [CLOUD_EVENTS.bare(recorded.event) for recorded in found.events]
        echo_json({"dry_run": True, "result": found.result, "changed": found.changed, "events": events})
        return
    for recorded in found.events:
        click.echo(printable(in_a_line(cast(Event, recorded.event))))
    click.echo(f"{text} (dry run: nothing was changed)")


def _is_places(result: Any) -> bool:
    """Whether the result says where it is recorded what followed: versions by SKU."""
    return isinstance(result, dict) and all(type(one) is int for one in result.values())


def _in_words(views: Views, command: object, result: Any, changed: bool) -> str:
    if words := _OWN_WORDS.get(type(command)):
        return words(views, command, result)
    if isinstance(command, Allocate) and result is None:
        return "Out of stock."
    if isinstance(result, str):
        return f"Allocated to batch {result}." if changed else f"Allocated to batch {result} before."
    if not changed:
        return "Nothing has changed: it was so before."
    if not _is_places(result):
        return "Done."
    places = ", ".join(f"version {version} of {sku}" for sku, version in sorted(result.items()))
    return f"Recorded as {places}."


def _placed(views: Views, command: PlaceOrder, result: Any) -> str:
    """A line for each of the order, or for each that there is not enough for."""
    if result["outcome"] == "out_of_stock":
        short = result["shortages"]
        rooms = views.rooms({one["sku"] for one in short})
        terms = LineTerms.of_order(command)
        about = (
            rooms[one["sku"]].falls_short_of(one["lineid"], one["requested"], one["taken_by_this_order"], terms)
            for one in short
        )
        return "\n".join(f"Out of stock: {one}." for one in about)
    return "\n".join(map(_line, result["lines"]))


def _line(line: Mapping[str, Any]) -> str:
    has = [f"{one['qty']} from batch {one['batchref']}" for one in line["promises"] if one["qty"]]
    left = sum(one["dispatched"] for one in line["promises"])
    has += [f"{left} dispatched"] if left else []
    has += [f"{line['returned']} returned"] if line["returned"] else []
    has += [f"{line['waiting']} waiting"] if line["waiting"] else []
    return f"Line {line['lineid']}, {line['qty']} of {line['sku']}: {', '.join(has) or 'nothing'}."


def _held(_: Views, __: PlaceHold | ExtendHold, result: Any) -> str:
    return f"{result['qty']} of batch {result['batchref']} are held until {result['until']}."


def _pulled(_: Views, __: PullForward, result: Any) -> str:
    lines = [
        f"Line {move['lineid']} of order {move['orderid']}: its {move['qty']} of batch {move['from']} are promised "
        f"from batch {move['to']} now."
        for move in result["moved"]
    ]
    return "\n".join(lines or ["No promise has moved: none that comes later fits."])


_OWN_WORDS: dict[type, Callable[[Views, Any, Any], str]] = {
    PlaceOrder: _placed,
    PlaceHold: _held,
    ExtendHold: _held,
    PullForward: _pulled,
}


def _outcome_of(move: Moved) -> str:
    lost = f"Line {move['lineid']} of order {move['orderid']} lost its {move['qty']} of batch {move['from']}"
    match move["outcome"]:
        case "moved":
            return f"{lost}, and is allocated to batch {move['to']}."
        case "waiting":
            return f"{lost}, and waits."
        case "out_of_stock":
            return f"{lost}, and is out of stock."
