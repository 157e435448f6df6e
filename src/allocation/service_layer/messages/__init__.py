"""The table of messages: every command and event, each described in one place.

What travels, is stored, validated, prefetched, documented and shown is read off this table. A test demands a row for
each member of the unions `Command` and `Event`.
"""

from __future__ import annotations

from typing import Any, TypeVar

from allocation.domain.errors import DomainError
from allocation.service_layer.messages import due_dates, holds, ordering, quarantine, stock
from allocation.service_layer.messages.table import CommandRow, EventRow
from allocation.service_layer.ports import Lookups

R = TypeVar("R", CommandRow[Any], EventRow[Any])


def _rows(kind: type[R]) -> tuple[R, ...]:
    return tuple(
        row
        for family in (stock, quarantine, ordering, holds, due_dates)
        for row in vars(family).values()
        if isinstance(row, kind)
    )


ALL_COMMANDS = _rows(CommandRow)
COMMANDS = tuple(row for row in ALL_COMMANDS if row.accepted)
EVENTS = _rows(EventRow)

REFUSALS: dict[str, type[DomainError]] = {refusal.code: refusal for row in COMMANDS for refusal in row.refuses}
"""By the code under which they are stored."""

_COMMANDS: dict[type, CommandRow[Any]] = {row.kind: row for row in ALL_COMMANDS}
_EVENTS: dict[type, EventRow[Any]] = {row.kind: row for row in EVENTS}


def event_row(kind: type) -> EventRow[Any]:
    return _EVENTS[kind]


def lookups(command: object) -> Lookups:
    """What the rules need for this command."""
    return _COMMANDS[type(command)].lookups(command)


def moves_many_lines(command: object) -> bool:
    return _COMMANDS[type(command)].moves_many_lines(command)


def streams(command: object) -> tuple[str, ...]:
    """The SKUs that the command changes, where it names them and may share a transaction with others; else none."""
    row = _COMMANDS[type(command)]
    return () if row.moves_many_lines(command) else tuple(row.lookups(command).skus)


def fingerprint_name(command: object) -> str:
    """What stands for the kind of a command in its fingerprint: never a class's name, which may change."""
    row = _COMMANDS[type(command)]
    return row.fingerprint_name or row.name
