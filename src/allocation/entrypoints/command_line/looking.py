"""`allocation explain`, `backorders`, `at-risk`, `orders`, `order`, `batches` and `holds`: what there is to see of
lines, those who wait or will be late, of orders, of batches, and of what is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from allocation.config import Settings
from allocation.entrypoints.command_line.output import echo_json, echo_table, json_option
from allocation.entrypoints.command_line.parameters import Name, Number
from allocation.entrypoints.command_line.sessions import service
from allocation.entrypoints.command_line.watch import Duration

if TYPE_CHECKING:
    from allocation.domain.explaining import Verdict
    from allocation.domain.lines import LineTerms
    from allocation.domain.ordering import Status
    from allocation.views import AtRisk, Backorder, Batch, Hold, Line, OrderSummary
    from allocation.views.pages import Page

Item = TypeVar("Item")
End = TypeVar("End")

STATES: tuple[Status, ...] = ("open", "complete", "cancelled", "empty")
"""Said here once more, so that no other command waits for the domain."""

_A_PAGE = 200

as_json_option = json_option("Print JSON, one a line.")
limit_option = click.option(
    "--limit", type=Number(min=1), metavar="N", default=100, show_default=True, help="At most so many."
)


def line_options(command: Callable[..., None]) -> Callable[..., None]:
    """What a line would want, as `line_asked_for` reads it."""
    parameters: list[Any] = [
        click.option("--needed-by", metavar="YYYY-MM-DD", help="The last day on which it is any use."),
        click.option("--may-split", is_flag=True, help="It takes parts of several batches."),
        click.option(
            "--location", "locations", multiple=True, help="Where it may lie, the first preferred. Repeatable."
        ),
    ]
    for parameter in reversed(parameters):
        command = parameter(command)
    return command


def line_asked_for(
    sku: str, qty: int, needed_by: str | None, may_split: bool, locations: Sequence[str]
) -> tuple[str, LineTerms]:
    """The SKU as it is kept, and the terms. Raises UsageError for what an order could not say either."""
    from allocation.domain.lines import LineTerms
    from allocation.validation import PLACE_ORDER, BadInput

    order: dict[str, Any] = {"orderid": "-", "lines": [{"sku": sku, "qty": qty}], "mode": "all_or_nothing"}
    order |= {"needed_by": needed_by, "may_split": may_split, "locations": list(locations) or None}
    try:
        command = PLACE_ORDER.read_fields(order)
    except BadInput as error:
        raise click.UsageError(str(error).removeprefix("lines.0.")) from error
    return command.lines[0].sku, LineTerms.of_order(command)


@click.command(short_help="Which batch a line would get now, and why.")
@click.argument("sku", type=Name())
@click.argument("qty", type=Number())
@line_options
@json_option("Print a JSON object.")
@click.pass_obj
def explain(  # noqa: PLR0917 - one for each option
    settings: Settings,
    sku: str,
    qty: int,
    needed_by: str | None,
    may_split: bool,
    locations: Sequence[str],
    as_json: bool,
) -> None:
    """Explain which batch a line of QTY of SKU would get now, and for each other one that has room why not.

    It is decided by the rule that promises stock; nothing changes.
    """
    from allocation.domain.errors import DomainError

    name, terms = line_asked_for(sku, qty, needed_by, may_split, locations)
    with service(settings, connections=2) as wired:
        try:
            found = wired.explain(name, qty, terms)
        except DomainError as refusal:
            raise click.ClickException(str(refusal)) from refusal
    if as_json:
        echo_json(asdict(found))
        return
    click.echo(f"It would get {named(found.verdict)}." if found.verdict else "No batch fits.")
    if found.candidates:
        rows = [[one.ref, f"{one.available:,}", one.verdict, one.why] for one in found.candidates]
        echo_table(["batch", "available", "", "why"], rows, numbers={1})


def named(verdict: Verdict) -> str:
    return " and ".join(f"batch {ref}" for ref in ([verdict] if isinstance(verdict, str) else verdict))


@click.command(short_help="The lines that wait, in the turn in which they are served.")
@click.argument("sku", type=Name(), required=False)
@limit_option
@as_json_option
@click.pass_obj
def backorders(settings: Settings, sku: str | None, limit: int, as_json: bool) -> None:
    """List the lines that wait, of SKU or of all, in the turn in which they are served.

    Each needs so much of one batch: all that it waits for, or 1 if it may be split. `room` is the most that one has.
    """
    with service(settings, connections=1) as wired:
        found = _first(limit, partial(wired.views.backorders, sku))
    columns = ["place", "order", "line", "SKU", "waits for", "needs", "room", "priority", "needed by", "at", "since"]
    _echo(found, limit, as_json, "No line waits.", columns, _of_backorder, numbers={0, 4, 5, 6, 7})


@click.command("at-risk", short_help="The lines whose day will be missed, or is.")
@click.argument("sku", type=Name(), required=False)
@limit_option
@as_json_option
@click.pass_obj
def at_risk(settings: Settings, sku: str | None, limit: int, as_json: bool) -> None:
    """List the lines, of SKU or of all, of which something comes after the day by which it is needed, or still waits
    when that is past. The first day missed comes first.

    What is overdue comes today at the earliest. What is in the warehouse is not at risk.
    """
    with service(settings, connections=1) as wired:
        found = _first(limit, partial(wired.views.at_risk, sku))
    columns = ["needed by", "days late", "order", "line", "SKU", "qty", "batch", "eta"]
    _echo(found, limit, as_json, "No line is at risk.", columns, _of_late, numbers={1, 5})


@click.command(short_help="Orders, with what is promised, waits and has left.")
@click.option("--state", type=click.Choice(STATES), help="Only those.")
@click.option("--sku", type=Name(), metavar="SKU", help="Only orders with a line of this very SKU.")
@click.option("--since", type=Duration(), metavar="10m", help="Only those placed in the last 30s, 10m, 2h or 7d.")
@limit_option
@as_json_option
@click.pass_obj
def orders(  # noqa: PLR0917 - one for each option
    settings: Settings, state: Status | None, sku: str | None, since: timedelta | None, limit: int, as_json: bool
) -> None:
    """List orders by their ids, each with how much is promised, waits and has left.

    An order is open while something is promised or waits; complete, when all that is left has been dispatched; empty,
    when nothing is left; or cancelled.
    """
    placed_since = datetime.now(UTC) - since if since else None
    with service(settings, connections=1) as wired:
        found = _first(limit, partial(wired.views.orders, status=state, sku=sku, since=placed_since))
    columns = ["order", "state", "lines", "promised", "waiting", "dispatched", "placed", "SKUs"]
    _echo(found, limit, as_json, "There is no such order.", columns, _of_order, numbers={2, 3, 4, 5})


@click.command(short_help="One order, line by line.")
@click.argument("orderid", type=Name())
@json_option("Print a JSON object.")
@click.pass_obj
def order(settings: Settings, orderid: str, as_json: bool) -> None:
    """Show the lines of ORDERID: what each has of which batch, what has left and what came back, and what waits at
    which place in the queue of its SKU."""
    with service(settings, connections=1) as wired:
        found = wired.views.order(orderid)
    if found is None:
        raise click.ClickException(f"no line of order {orderid} was ever allocated, nor waits")
    if as_json:
        echo_json(asdict(found))
        return
    click.echo(f"Order {found.orderid} is {found.status}.")
    columns = [
        "line",
        "SKU",
        "qty",
        "promised",
        "of batch",
        "waits for",
        "place",
        "dispatched",
        "returned",
        "needed by",
    ]
    echo_table([*columns, ""], [_of_line(line) for line in found.lines], numbers={2, 3, 5, 6, 7, 8})


@click.command(short_help="Batches of a SKU, or those that are overdue or in quarantine.")
@click.argument("sku", type=Name(), required=False)
@click.option("--overdue", is_flag=True, help="Only those that should have come, the longest overdue first.")
@click.option("--quarantined", is_flag=True, help="Only those of which something is in quarantine.")
@limit_option
@as_json_option
@click.pass_obj
def batches(  # noqa: PLR0917 - one for each option
    settings: Settings, sku: str | None, overdue: bool, quarantined: bool, limit: int, as_json: bool
) -> None:
    """List batches, those of SKU in the order of allocation, or of all SKUs by their references.

    What expired is in quarantine as far as it is here.
    """
    with service(settings, connections=1) as wired:
        found = _first(limit, partial(wired.views.batches, sku, overdue=overdue, quarantined=quarantined))
    columns = ["batch", "SKU", "state", "eta", "expires", "at"]
    columns += ["purchased", "available", "allocated", "held", "dispatched", "quarantined"]
    _echo(found, limit, as_json, "There is no such batch.", columns, _of_batch, numbers=set(range(6, 12)))


@click.command(short_help="What is held for nobody's line yet, and until when.")
@click.argument("sku", type=Name(), required=False)
@limit_option
@as_json_option
@click.pass_obj
def holds(settings: Settings, sku: str | None, limit: int, as_json: bool) -> None:
    """List what is held now, of SKU or of all, by SKU and id. What has run out is free, and not listed."""
    with service(settings, connections=1) as wired:
        found = _first(limit, partial(wired.views.holds, sku))
    columns = ["hold", "SKU", "qty", "batch", "until"]
    _echo(found, limit, as_json, "Nothing is held.", columns, _of_hold, numbers={2})


def _first(limit: int, view: Callable[[End | None, int], Page[Item, End]]) -> list[Item]:
    """So many, and one more if there is one."""
    found, end = view(None, _A_PAGE)
    while end is not None and len(found) <= limit:
        some, end = view(end, _A_PAGE)
        found += some
    return found[: limit + 1]


def _of_backorder(one: Backorder) -> list[str]:
    of_queue = [f"{one.qty:,}", f"{one.needs:,}", f"{one.largest:,}", str(one.priority), _day(one.needed_by)]
    at = ", ".join(one.locations or ())
    return [f"{one.position:,}", one.orderid, one.lineid, one.sku, *of_queue, at, _moment(one.since)]


def _of_late(one: AtRisk) -> list[str]:
    of_line = [one.orderid, one.lineid, one.sku, f"{one.qty:,}"]
    return [_day(one.needed_by), f"{one.days:,}", *of_line, one.batchref or "waits", _day(one.eta)]


def _of_order(one: OrderSummary) -> list[str]:
    figures = (f"{number:,}" for number in (one.lines, one.promised, one.waiting, one.dispatched))
    return [one.orderid, one.status, *figures, _moment(one.placed), ", ".join(one.skus)]


def _of_line(one: Line) -> list[str]:
    promised = [promise for promise in one.promises if promise.qty]
    of = ", ".join(f"{promise.qty:,} of {promise.batchref}" for promise in promised)
    of = promised[0].batchref if len(promised) == 1 else of
    figures = [f"{sum(promise.qty for promise in promised):,}", of, f"{one.waiting:,}"]
    gone = [f"{sum(promise.dispatched for promise in one.promises):,}", f"{one.returned:,}"]
    place = "" if one.position is None else f"{one.position:,}"
    risk = "at risk" if one.at_risk else ""
    return [one.lineid, one.sku, f"{one.qty:,}", *figures, place, *gone, _day(one.needed_by), risk]


def _of_batch(one: Batch) -> list[str]:
    figures = one.qty, one.available, one.allocated, one.held, one.dispatched, one.quarantined
    about = [one.ref, one.sku, one.state, _day(one.eta), _day(one.expires), one.location]
    return [*about, *(f"{number:,}" for number in figures)]


def _of_hold(one: Hold) -> list[str]:
    return [one.hold_id, one.sku, f"{one.qty:,}", one.batchref, f"{one.until.astimezone():%Y-%m-%d %H:%M:%S}"]


def _day(day: date | None) -> str:
    return day.isoformat() if day else ""


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else ""


def _echo(  # noqa: PLR0917 - what a list consists of
    found: Sequence[Any],
    limit: int,
    as_json: bool,
    none: str,
    columns: Sequence[str],
    cells: Callable[[Any], list[str]],
    numbers: set[int],
) -> None:
    if as_json:
        for one in found[:limit]:
            echo_json(asdict(one))
    elif found:
        echo_table(columns, [cells(one) for one in found[:limit]], numbers)
    else:
        click.echo(none)
    if len(found) > limit:
        click.echo(f"There are more than {limit:,}; see --limit.", err=True)
