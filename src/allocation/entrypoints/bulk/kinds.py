"""What a file may hold, and what its rows ask for, before anything is done."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, groupby, islice
from typing import Any

from allocation.domain.commands import Allocate, CreateBatch, PlaceOrder
from allocation.domain.lines import OrderLine
from allocation.domain.names import normal
from allocation.domain.values import Mode
from allocation.entrypoints.bulk.csv_files import REPLACEMENT, Row, unescaped
from allocation.service_layer.messages.table import Several
from allocation.validation import PLACE_ORDER, BadInput, Schema
from messaging.envelope import Outcome

_LINES = PLACE_ORDER.row.fields["lines"].limit
assert isinstance(_LINES, Several)
MOST_ROWS_OF_ORDER = _LINES.most

JOINERS = "\u200c\u200d"
"""Not seen either, but some scripts need them: names may differ in them."""

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,100}")


class Result(StrEnum):
    ADDED = "added"
    ALLOCATED = "allocated"
    PARTLY_ALLOCATED = "partly allocated"
    WAITING = "waiting"
    OUT_OF_STOCK = "out of stock"
    ALREADY_THERE = "already there"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file may hold: its fields, and the results that its rows may have, as they are counted."""

    schema: Schema[Any]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    results: tuple[Result, ...]
    result_of: Callable[[Any, Outcome], list[tuple[Result, str]]]
    """Of each row, in their order."""
    mode: Mode | None = None
    """Neighbouring rows of one order are one command."""

    @property
    def fields(self) -> tuple[str, ...]:
        return self.required + self.optional

    def columns(self, mapped: Mapping[str, str], found: Iterable[str]) -> dict[str, str]:
        """Where each field is taken from; an optional one that is mapped to nothing, or not found, is left out."""
        columns = dict.fromkeys(self.optional, "") | {field: field for field in (*self.required, *found)}
        columns |= mapped
        return {field: column for field in self.fields if (column := columns[field])}

    def first(self, rows: Iterable[Row], limit: int | None, columns: Mapping[str, str]) -> Iterator[Row]:
        """At most so many; but the last order is whole."""
        if limit is None or self.mode is None:
            yield from islice(rows, limit)
            return
        order, last = _Orders(columns["orderid"]), 0
        for count, row in enumerate(rows):
            number = order(row)
            if count >= limit and number != last:
                return
            yield row
            last = number

    def readings(self, rows: Iterable[Row], columns: Mapping[str, str]) -> Iterator[Reading]:
        if self.mode is None:
            return _each_once(self._reading([row], columns) for row in rows)
        orders = groupby(rows, _Orders(columns["orderid"]))
        return _each_once(
            self._reading(list(islice(of_order, MOST_ROWS_OF_ORDER + 1)), columns, of_order) for _, of_order in orders
        )

    def _reading(self, rows: list[Row], columns: Mapping[str, str], more: Iterable[Row] = ()) -> Reading:
        """Of `more` rows only their numbers are kept: there are too many. A row that can't be taken keeps out all of
        its order."""
        read = [self._read(row, columns) for row in rows]
        numbers = [row.number for row in chain(rows, more)]
        faults = {number: str(one) for number, one in zip(numbers, read, strict=False) if isinstance(one, BadInput)}
        if len(numbers) > MOST_ROWS_OF_ORDER:
            faults = dict.fromkeys(
                numbers, f"{len(numbers):,} rows of one order; at most {MOST_ROWS_OF_ORDER} are placed"
            )
        elif not faults and self.mode:
            try:
                return Reading(numbers, _whole_order(read, self.mode))
            except BadInput as error:
                faults = dict.fromkeys(numbers, str(error))
        if faults:
            of_order = {orderid_in(row, columns["orderid"]) for row in rows} if self.mode else set()
            which = "which may be of the same order" if len(of_order) > 1 else "of the same order"
            others = f"row {min(faults)}, {which}, is refused"
            orders = [orderid for orderid in of_order if orderid]
            return Reading(numbers, None, [faults.get(number, others) for number in numbers], orders)
        return Reading(numbers, read[0])

    def _read(self, row: Row, columns: Mapping[str, str]) -> object:
        try:
            return self.command(row, columns)
        except BadInput as error:
            return error

    def command(self, row: Row, columns: Mapping[str, str]) -> object:
        """Raises BadInput."""
        if row.fault:
            raise BadInput(row.fault)
        given: dict[str, object] = {field: unescaped(row.values[column]) for field, column in columns.items()}
        for name in self.optional:
            if not given.get(name):
                given.pop(name, None)
        qty = str(given["qty"])
        if _WHOLE_NUMBER.fullmatch(qty):
            given["qty"] = int(qty)
        return self.schema.read_fields(given)


@dataclass(slots=True)
class _Orders:
    """Numbers the orders of a file, a row at a time. A row that does not say of which order it is may be of the one
    before it or of the one behind: then these are one."""

    column: str
    number: int = 0
    orderid: str | None = None

    def __call__(self, row: Row) -> int:
        found = orderid_in(row, self.column)
        if found and self.orderid and found != self.orderid:
            self.number += 1
        self.orderid = found
        return self.number


def orderid_in(row: Row, column: str) -> str | None:
    """As it is meant, whatever stands around it, or in it and is not seen; None where it can't be read."""
    seen = (
        one for one in row.values.get(column, "") if one in JOINERS or unicodedata.category(one) not in {"Cc", "Cf"}
    )
    orderid = normal(unescaped("".join(seen)).strip())
    is_read = orderid and not (row.fault and REPLACEMENT in orderid)
    return orderid if is_read else None


@dataclass(frozen=True, slots=True)
class Reading:
    """What some rows ask for together; or, for each, why they are refused."""

    numbers: list[int]
    command: object
    refused: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    """Whole ones, that are refused."""


def _each_once(readings: Iterable[Reading]) -> Iterator[Reading]:
    """What is named for a second time may be the same again or more of it: nobody can say. It is refused in every run,
    whatever is stored by then."""
    named: set[int] = set()  # of hashes: a file may have millions of rows
    for reading in readings:
        if reading.refused:
            named.update(hash(_name_of_order(orderid)) for orderid in reading.orders)
            yield reading
            continue
        what, mend = name = _name_of(reading.command)
        if hash(name) in named:
            yield Reading(reading.numbers, None, [f"{what} is in this file already: {mend}"] * len(reading.numbers))
        else:
            named.add(hash(name))
            yield reading


def _name_of(command: object) -> tuple[str, str]:
    """And what to do if it is there twice."""
    if isinstance(command, CreateBatch):
        return f"batch {command.ref}", "give each batch a ref of its own, or one row with all of it"
    if isinstance(command, PlaceOrder):
        return _name_of_order(command.orderid)
    assert isinstance(command, Allocate), command
    line = OrderLine.of(command)
    return f"line {line.lineid} of order {line.orderid}", "give each line a lineid of its own"


def _name_of_order(orderid: str) -> tuple[str, str]:
    return f"order {orderid}", "let the rows of an order stand together"


def _whole_order(lines: Sequence[Any], mode: Mode) -> PlaceOrder:
    """Raises BadInput."""
    assert len({one.orderid for one in lines}) == 1, "rows of one order are placed"
    of_lines = [{"sku": one.sku, "qty": one.qty, "lineid": one.lineid} for one in lines]
    return PLACE_ORDER.read_fields({"orderid": lines[0].orderid, "lines": of_lines, "mode": mode})
