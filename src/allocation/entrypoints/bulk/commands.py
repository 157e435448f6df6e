"""`allocation import` and `allocation export`, as they are typed and explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from allocation.config import Settings
from allocation.domain.values import Mode
from allocation.entrypoints.bulk.csv_files import Condition
from allocation.entrypoints.command_line.output import json_option
from allocation.entrypoints.command_line.parameters import Group, Number


@click.group("import", cls=Group)
def import_() -> None:
    """Take in batches or orders from a CSV file."""


@click.group(cls=Group)
def export() -> None:
    """Write what is allocated, or at risk, to a CSV file."""


def _conditions(_: click.Context, __: click.Parameter, given: Sequence[str]) -> list[Condition]:
    try:
        return [Condition.parse(text) for text in given]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _mapping(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    mapped: dict[str, str] = {}
    for text in given:
        field, equals, column = text.partition("=")
        if not (field and equals):
            raise click.BadParameter(f"{text!r} is not of the form field=column")
        if field in mapped:
            raise click.BadParameter(f"{field!r} is given twice")
        mapped[field] = column
    return mapped


def _file_and_options(command: Callable[..., None]) -> Callable[..., None]:
    parameters: list[Any] = [
        click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)),
        click.option(
            "--map",
            "mapped",
            metavar="FIELD=COLUMN",
            multiple=True,
            callback=_mapping,
            help="Take a field from a column of another name; an optional one that has none is FIELD=. Repeatable.",
        ),
        click.option(
            "--where",
            metavar="COLUMN=VALUE[,VALUE...]",
            multiple=True,
            callback=_conditions,
            help="Only rows where the column has one of the values; with != none of them. The empty value counts: "
            "shipped_date!= keeps rows with a date, shipped_date= those without. Repeatable: all must hold.",
        ),
        click.option(
            "--limit",
            type=Number(min=1),
            metavar="N",
            help="At most the first N of these rows; of whole orders the last is not cut.",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Change nothing and make nobody wait: decide every row on the stock as it is now, in a transaction "
            "that is never committed, and print what would happen.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="Print the result of every row, not only of refused ones."),
        json_option("Print JSON: one row a line, then the counts."),
        click.pass_obj,
    ]
    for parameter in reversed(parameters):
        command = parameter(command)
    return command


@import_.command(short_help="Add the batches of a CSV file.")
@_file_and_options
def batches(settings: Settings, **options: Any) -> None:
    """Add the batches of a CSV FILE: columns ref, sku, qty and, if they are there, eta, expires and location.

    FILE is in UTF-8, plain or gzipped, with commas, semicolons or tabs; - reads standard input. A date is as
    YYYY-MM-DD; without an eta a batch is in the warehouse. Other columns are passed over, and named.

    A batch that is there already, just so, is left alone, so a file may be imported again at any time: after an
    interruption that goes on where it stopped. One that the file names twice is refused the second time. Rows that
    can't be taken are printed with their number (the header is row 1) and the reason; the others go in all the same.

    Exit status: 0, or 1 when a row was refused or not all could be read or stored, or 2 when the options or columns
    do not fit and nothing was done.
    """
    from allocation.entrypoints.bulk.importing import BATCHES
    from allocation.entrypoints.bulk.session import ImportOptions, import_file

    import_file(settings, BATCHES, ImportOptions(**options))


@import_.command(short_help="Allocate the order lines of a CSV file.")
@click.option(
    "--mode",
    type=click.Choice(get_args(Mode)),
    help="Place neighbouring rows of one order together. When there is not enough, nothing of it is promised; each "
    "line gets what there is and waits for the rest; or each line that does not fit waits as a whole.",
)
@_file_and_options
def orders(settings: Settings, mode: Mode | None, **options: Any) -> None:
    """Allocate the order lines of a CSV FILE, in its order: columns orderid, sku, qty and, if there is one, lineid.

    FILE is in UTF-8, plain or gzipped, with commas, semicolons or tabs; - reads standard input. A line is known by its
    order and its line id; without one, by its order and SKU. Other columns are passed over, and named.

    A line that is allocated already, just so, is left alone, so a file may be imported again at any time: after an
    interruption that goes on where it stopped, and lines that were out of stock are tried again. One that the file
    names twice is refused the second time. Rows that can't be taken are printed with their number (the header is row 1)
    and the reason; the others go in all the same. A SKU that was never purchased counts as out of stock, and is printed
    too, since it may be a slip of the pen.

    With --mode the rows of an order that stand together, 200 at most, are placed in one transaction; if one of them
    can't be taken, none of them is. An order that comes back further down is refused.

    Exit status: 0, or 1 when a row was refused or not all could be read or stored, or 2 when the options or columns
    do not fit and nothing was done. Out of stock is not a failure.
    """
    from allocation.entrypoints.bulk.importing import ORDERS, whole_orders
    from allocation.entrypoints.bulk.session import ImportOptions, import_file

    import_file(settings, whole_orders(mode) if mode else ORDERS, ImportOptions(**options))


def _named(_: click.Context, __: click.Parameter, file: Path) -> Path:
    if file == Path():
        raise click.BadParameter("the name of the file is empty")
    return file


_to_file = click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path), callback=_named)
_count_option = json_option("Say how many lines as a JSON object.")


@export.command(short_help="Write all allocated lines to a CSV file.")
@_to_file
@_count_option
@click.pass_obj
def allocations(settings: Settings, file: Path, as_json: bool) -> None:
    """Write all allocated lines to a CSV FILE: orderid, lineid, sku, qty, batchref, and of the batch expires and
    location, in the order of allocation.

    FILE is gzipped if it is named .gz; - is standard output. It appears, or replaces an older one, when it is complete.
    """
    from allocation.entrypoints.bulk import exporting
    from allocation.entrypoints.bulk.session import export_file

    export_file(settings, exporting.allocations(), file, as_json=as_json)


@export.command("at-risk", short_help="Write the lines whose day will be missed, or is, to a CSV file.")
@_to_file
@_count_option
@click.pass_obj
def at_risk(settings: Settings, file: Path, as_json: bool) -> None:
    """Write the lines whose day will be missed, or is, to a CSV FILE: orderid, lineid, sku, qty, batchref and its eta,
    needed_by, and by how many days, in the order of the days missed. One that waits has no batchref.

    FILE is gzipped if it is named .gz; - is standard output. It appears, or replaces an older one, when it is complete.
    """
    from allocation.entrypoints.bulk import exporting
    from allocation.entrypoints.bulk.session import export_file

    export_file(settings, exporting.lines_at_risk(settings.time_zone), file, as_json=as_json)
