"""`allocation availability`: what can be had of a SKU today and later, in words and by date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from allocation.config import Settings
from allocation.entrypoints.command_line.looking import line_asked_for, line_options, named
from allocation.entrypoints.command_line.output import echo_json, echo_table, json_option
from allocation.entrypoints.command_line.parameters import Name, Number
from allocation.entrypoints.command_line.sessions import service

if TYPE_CHECKING:
    from allocation.views import Availability


@click.command(short_help="What can be had of a SKU today and later.")
@click.argument("sku", type=Name())
@click.argument("qty", type=Number(), required=False)
@line_options
@json_option("Print a JSON object.")
@click.pass_obj
def availability(  # noqa: PLR0917 - one for each option
    settings: Settings,
    sku: str,
    qty: int | None,
    needed_by: str | None,
    may_split: bool,
    locations: Sequence[str],
    as_json: bool,
) -> None:
    """Say what can be had of SKU today, and from each day on which something comes.

    With QTY, also when a line of so many could have it at the earliest, by the rule that promises stock. The options
    are about that line. Nothing changes.
    """
    from allocation.domain.errors import InvalidSku

    if qty is None and (needed_by or may_split or locations):
        raise click.UsageError("--needed-by, --may-split and --location are about a QTY, which must be given with them")
    name, terms = line_asked_for(sku, 1 if qty is None else qty, needed_by, may_split, locations)
    with service(settings, connections=1) as wired:
        [found] = wired.views.availability([name], qty, terms)
    if found is None:
        raise click.ClickException(str(InvalidSku(sku)))
    if as_json:
        echo_json(asdict(found))
        return
    for sentence in _in_words(found, qty):
        click.echo(sentence)
    rows = [
        ["today" if place == 0 else str(day.date), *(f"{n:,}" for n in (day.arrives, day.available, day.cumulative))]
        for place, day in enumerate(found.by_date)
    ]
    echo_table(["date", "arrives", "available", "in all"], rows, numbers={1, 2, 3})


def _in_words(found: Availability, qty: int | None) -> Iterator[str]:
    today, *later = found.by_date
    more = [f"{day.cumulative:,} from {day.date}" for day in later if day.available]
    yield ", ".join([f"{today.cumulative:,} today", *more]) + "."
    if qty is not None and found.earliest:
        when = "today" if found.earliest.date == today.date else f"on {found.earliest.date}"
        yield f"A line of {qty:,} could have it {when}, from {named(found.earliest.batchref)}."
    elif qty is not None:
        yield f"No batch fits a line of {qty:,}."
    here = found.on_hand
    parts = here.available, here.allocated, here.held, here.quarantined
    available, allocated, held, quarantined = (f"{part:,}" for part in parts)
    yield (
        f"In the warehouse: {here.purchased:,}, of which {available} available, {allocated} allocated, {held} held, "
        f"{quarantined} in quarantine; {here.dispatched:,} dispatched."
    )
    for late in found.overdue:
        yield f"Batch {late.ref} is overdue since {late.eta}: its {late.available:,} count as of today."
    if waiting := found.waiting.lines:
        who = "1 line waits" if waiting == 1 else f"{waiting:,} lines wait"
        yield f"{who} for {found.waiting.qty:,}, which none of this fits."
