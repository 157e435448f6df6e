"""An overview as a screen and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from allocation.adapters.redis_channels import CHANGE_BATCH_QUANTITY, COMMANDS
from allocation.config import Settings
from allocation.database.schema import REVISION
from allocation.entrypoints.command_line.addresses import without_password
from allocation.overview import Api, Overview, Problem, Unreachable, why
from allocation.overview.diagnosis import duration_in_words
from allocation.overview.servers import BrokerStatus, DatabaseStatus, Tables
from allocation.views.stock_totals import MOST
from messaging.redis.lag import Lag
from messaging.sql.exclusive import Holder

WIDE = 200
"""Columns, so that no address is cut; the terminal breaks what is too long for it."""


def as_object(settings: Settings, overview: Overview, problems: list[Problem]) -> dict[str, Any]:
    """One object, with null for what could not be asked."""
    database, broker = overview.database, overview.broker
    return {
        "verdict": "needs a person" if problems else "fine",
        "problems": [asdict(problem) for problem in problems],
        "database": {"where": without_password(settings.database_url) or None, **_of_database(database)},
        "redis": {"where": without_password(settings.redis_url) or None, **_of_broker(broker)},
        "api": {"where": overview.api_url, **_of_api(overview.api)},
        **_of_tables(database.tables if isinstance(database, DatabaseStatus) else None),
    }


def screen(settings: Settings, overview: Overview, problems: list[Problem]) -> Iterator[RenderableType]:
    yield _servers(settings, overview)
    if isinstance(overview.database, DatabaseStatus) and overview.database.tables:
        tables = overview.database.tables
        yield _effects(tables)
        yield _commands(tables, overview.broker)
        yield _stock(tables)
    if not problems:
        yield Text("All is fine.", "bold green")
    for problem in problems:
        yield Text.assemble((f"{problem.what}", "bold red"), ": ", problem.helps)


def _of_database(database: DatabaseStatus | Unreachable | None) -> dict[str, Any]:
    if not isinstance(database, DatabaseStatus):
        return {"answers": False, "error": why(database)}
    return {
        "answers": True,
        "milliseconds": database.milliseconds,
        "version": database.version,
        "revision": database.revision,
        "needed_revision": REVISION,
        "is_current": database.is_current,
    }


def _of_broker(broker: BrokerStatus | Unreachable | None) -> dict[str, Any]:
    if not isinstance(broker, BrokerStatus):
        return {"answers": False, "error": why(broker)}
    return {"answers": True, **asdict(broker)}


def _of_api(api: Api | Unreachable) -> dict[str, Any]:
    if not isinstance(api, Api):
        return {"answers": False, "error": why(api)}
    return {"answers": True, **asdict(api)}


def _of_tables(tables: Tables | None) -> dict[str, Any]:
    if tables is None:
        return dict.fromkeys(("effects", "dead", "consumer", "stock", "waiting_lines", "due_dates"))
    return {
        "effects": [asdict(backlog) for backlog in tables.backlogs],
        "dead": {"messages": tables.dead_messages, "effects": sum(backlog.dead for backlog in tables.backlogs)},
        "consumer": {"stream": _of_holder(tables.command_stream), "channel": _of_holder(tables.bridge)},
        "stock": asdict(tables.stock),
        "waiting_lines": tables.waiting_lines,
        "due_dates": asdict(tables.due_dates),
    }


def _of_holder(holder: Holder | None) -> dict[str, Any] | None:
    return {"address": holder.address, "since": holder.since and holder.since.isoformat()} if holder else None


def _servers(settings: Settings, overview: Overview) -> Table:
    table = _table("Servers", "", "", "")
    database, broker = overview.database, overview.broker
    where = without_password(settings.database_url) or f"embedded in {settings.home}"
    if not isinstance(database, DatabaseStatus):
        table.add_row("PostgreSQL", where, Text(why(database), "red"))
    else:
        revision = f"schema {database.revision or 'missing'}" + ("" if database.is_current else f", not {REVISION}")
        text = f"answers in {database.milliseconds:g} ms, {revision}"
        table.add_row(f"PostgreSQL {database.version}", where, Text(text, "" if database.is_current else "red"))
    where = without_password(settings.redis_url) or f"embedded in {settings.home}"
    if not isinstance(broker, BrokerStatus):
        table.add_row("Redis", where, Text(why(broker), "red"))
    else:
        table.add_row(f"{broker.product} {broker.version}", where, f"answers in {broker.milliseconds:g} ms")
    table.add_row("API", overview.api_url, _in_words(overview.api))
    return table


def _in_words(api: Api | Unreachable) -> Text:
    if not isinstance(api, Api):
        return Text(f"not there: {why(api)}", "red")
    return Text(f"{api.status}, answers in {api.milliseconds:g} ms", "" if api.status == "ready" else "red")


def _effects(tables: Tables) -> Table:
    table = _table("Outbox", "waiting", "SKUs", "oldest", "failing", "dead", numbers=True)
    for one in tables.backlogs:
        plus = "" if one.is_complete else "+"
        table.add_row(
            one.effect,
            f"{one.waiting:,}{plus}",
            f"{one.streams:,}{plus}",
            "" if one.oldest is None else duration_in_words(one.oldest),
            f"{one.failing:,}{plus}",
            Text(f"{one.dead:,}{plus}", "red" if one.dead else ""),
        )
    if not tables.backlogs:
        table.add_row("nothing", "0", "0", "", "0", "0")
    return table


def _commands(tables: Tables, broker: BrokerStatus | Unreachable | None) -> Table:
    table = _table("Inbound over Redis", "", "")
    behind, listened = "", ""
    if isinstance(broker, BrokerStatus):
        behind, listened = "; ".join(_behind(broker.commands)), f"{broker.listeners} listening"
    table.add_row(f"stream {COMMANDS}", _held(tables.command_stream), behind)
    table.add_row(f"channel {CHANGE_BATCH_QUANTITY}", _held(tables.bridge), listened)
    table.add_row("given up", f"{tables.dead_messages:,} messages", "")
    return table


def _stock(tables: Tables) -> Table:
    stock, plus = tables.stock, "" if tables.stock.is_complete else "+"
    table = _table(
        "Available stock", "batches", "pieces", "allocated", "held", "quarantined", "available", numbers=True
    )
    here = stock.open_batches - stock.incoming_batches
    on_hand = here, stock.on_hand, stock.on_hand_allocated, stock.on_hand_held, stock.on_hand_quarantined
    incoming = stock.incoming_batches, stock.incoming, stock.incoming_allocated, stock.incoming_held, 0
    for name, figures in (
        ("on hand", (*on_hand, stock.on_hand_available)),
        ("incoming", (*incoming, stock.incoming_available)),
    ):
        table.add_row(name, *(f"{figure:,}{plus}" for figure in figures))
    table.add_row(f"of {stock.skus:,}{plus} SKUs")
    if overdue := tables.due_dates.overdue_batches:
        table.add_row("overdue batches", Text(f"{overdue:,}{'+' if overdue >= MOST else ''}", "yellow"))
    if waiting := tables.waiting_lines:
        table.add_row("lines that wait", f"{waiting:,}{'+' if waiting >= MOST else ''}")
    return table


def _behind(lag: Lag) -> Iterator[str]:
    yield f"{lag.unread:,}{'' if lag.is_complete else '+'} unread, {lag.pending:,} pending"
    if lag.oldest is not None:
        yield f"the oldest {duration_in_words(lag.oldest)} old"
    if lag.readers:
        yield f"read by {', '.join(lag.readers)}"


def _held(holder: Holder | None) -> Text:
    if holder is None:
        return Text("no consumer", "red")
    since = f" since {_local(holder.since)}" if holder.since else ""
    return Text(f"a consumer at {holder.address}{since}")


def _local(moment: datetime) -> str:
    here = moment.astimezone()
    return f"{here:%H:%M:%S}" if here.date() == datetime.now(here.tzinfo).date() else f"{here:%Y-%m-%d %H:%M}"


def _table(title: str, *columns: str, numbers: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column(Text(title, "not dim bold"), min_width=32)
    for column in columns:
        table.add_column(column, justify="right" if numbers else "left", no_wrap=True)
    return table
