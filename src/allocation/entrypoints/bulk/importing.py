"""Rows of a file as commands, many to a transaction, each with a result of its own."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from itertools import chain, groupby, islice
from typing import Any, TypeVar, cast
from uuid import uuid4

from allocation.domain.commands import Allocate, CreateBatch, Mode, PlaceOrder, ReportShortages
from allocation.domain.errors import InvalidSku
from allocation.domain.lines import OrderLine
from allocation.domain.names import normal
from allocation.entrypoints.bulk.csv_files import REPLACEMENT, BadCsv, Row, unescaped
from allocation.entrypoints.command_line.os_user import user_principal
from allocation.service_layer.mails import IMPORT
from allocation.service_layer.messages.ordering import PLACE_ORDER
from allocation.service_layer.messages.table import Several
from allocation.validation import ALLOCATE, CREATE_BATCH, BadInput, Schema
from messaging.bus import MessageBus
from messaging.envelope import Metadata, Outcome, Request
from messaging.errors import ConcurrencyConflict, Unavailable
from messaging.unit_of_work import UnitOfWork

MOST_ROWS_TOGETHER = 250
"""In one transaction; more gain little, and hold up those who write the same products for longer."""

MOST_LISTED = 100
"""Lines in the mail about what is out of stock."""

MOST_SETBACKS = 60
"""One after another, of a tenth of a second each; all but the first few are those of a single row."""

T = TypeVar("T")
U = TypeVar("U", bound=UnitOfWork)

_LINES = PLACE_ORDER.fields["lines"].limit
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
class RowResult:
    number: int
    result: Result
    detail: str
    needs_attention: bool = False

    def __str__(self) -> str:
        return f"row {self.number}: {self.result}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Kind:
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
        there = {*self.required, *found}
        return {field: mapped.get(field, field) for field in self.fields if mapped.get(field, field in there)}

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
            return (self._reading([row], columns) for row in rows)
        orders = groupby(rows, _Orders(columns["orderid"]))
        return (
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
        name = _name_of(reading.command)
        if hash(name) in named:
            what, mend = name
            reason = f"{what} is in this file already: {mend}"
            yield Reading(reading.numbers, None, [reason] * len(reading.numbers))
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
    order: PlaceOrder = Schema(PLACE_ORDER).read_fields({"orderid": lines[0].orderid, "lines": of_lines, "mode": mode})
    return order


def _result_of_batch(cmd: CreateBatch, outcome: Outcome) -> list[tuple[Result, str]]:
    result = Result.ADDED if outcome.changed else Result.ALREADY_THERE
    about = [f"batch {cmd.ref}, {cmd.qty:,} of {cmd.sku}", f"eta {cmd.eta}" if cmd.eta else "in the warehouse"]
    about += [f"{'expired' if _has_expired(cmd) else 'expires'} {cmd.expires}"] if cmd.expires else []
    about += [f"location {cmd.location}"] if cmd.location else []
    return [(result, ", ".join(about))]


def _result_of_line(cmd: Allocate, outcome: Outcome) -> list[tuple[Result, str]]:
    line = _in_words(OrderLine.of(cmd))
    if outcome.result is None:
        return [(Result.OUT_OF_STOCK, line)]
    result = Result.ALLOCATED if outcome.changed else Result.ALREADY_THERE
    return [(result, f"{line} from batch {outcome.result}")]


def _result_of_order(cmd: PlaceOrder, outcome: Outcome) -> list[tuple[Result, str]]:
    if outcome.result["outcome"] == "out_of_stock":
        short = _short_of(cmd, outcome)
        others = f": not placed, since there is not enough for line {short[0].lineid}"
        return [(Result.OUT_OF_STOCK, _in_words(line) + others * (line not in short)) for line in _lines_of(cmd)]
    now = {line["lineid"]: line for line in outcome.result["lines"]}
    return [_result_of_placed(line, now[line.lineid], changed=outcome.changed) for line in _lines_of(cmd)]


def _result_of_placed(line: OrderLine, now: Mapping[str, Any], *, changed: bool) -> tuple[Result, str]:
    batches = " and ".join(f"batch {one['batchref']}" for one in now["promises"])
    detail = _in_words(line) + (f" from {batches}" if batches else "")
    detail += f", {now['waiting']:,} waiting" if now["waiting"] else ""
    if not changed:
        return Result.ALREADY_THERE, detail
    if not now["waiting"]:
        return Result.ALLOCATED, detail
    return Result.PARTLY_ALLOCATED if batches else Result.WAITING, detail


def _lines_of(cmd: Allocate | PlaceOrder) -> list[OrderLine]:
    if isinstance(cmd, Allocate):
        return [OrderLine.of(cmd)]
    return [OrderLine(cmd.orderid, line.sku, line.qty, line.lineid) for line in cmd.lines]


def _in_words(line: OrderLine) -> str:
    return f"order {line.orderid}, line {line.lineid}, {line.qty:,} of {line.sku}"


BATCHES = Kind(
    schema=CREATE_BATCH,
    required=("ref", "sku", "qty"),
    optional=("eta", "expires", "location"),
    results=(Result.ADDED, Result.ALREADY_THERE, Result.REFUSED),
    result_of=_result_of_batch,
)
ORDERS = Kind(
    schema=ALLOCATE,
    required=("orderid", "sku", "qty"),
    optional=("lineid",),
    results=(Result.ALLOCATED, Result.OUT_OF_STOCK, Result.ALREADY_THERE, Result.REFUSED),
    result_of=_result_of_line,
)


def whole_orders(mode: Mode) -> Kind:
    """Neighbouring rows of one order are placed together."""
    results = (Result.ALLOCATED, Result.PARTLY_ALLOCATED, Result.WAITING, *ORDERS.results[1:])
    return replace(ORDERS, results=results, result_of=_result_of_order, mode=mode)


@dataclass(slots=True)
class Shortages:
    """What a file asked for that is out of stock: all of it as a hash, which is the same for the same lines."""

    lines: int = 0
    first: OrderLine | None = None
    listed: list[str] = field(default_factory=list)
    metadata: Metadata | None = None
    _hash: Any = field(default_factory=sha256)

    def add(self, line: OrderLine) -> None:
        self.lines += 1
        self.first = self.first or line
        self._hash.update(json.dumps([line.orderid, line.lineid, line.sku, line.qty]).encode())
        if len(self.listed) < MOST_LISTED:
            self.listed.append(f"{line.sku}: order {line.orderid}, line {line.lineid}, asked for {line.qty:,}")

    def report(self, bus: MessageBus[U]) -> None:
        """Have them reported; the same lines again within a day are not. Raises Unavailable."""
        if self.first:
            command = ReportShortages(self.first.sku, self.lines, tuple(self.listed))
            bus.handle(command, self.metadata, f"{IMPORT}:{self._hash.hexdigest()}")


@dataclass(frozen=True, slots=True)
class Import:
    """`handle_together` is that of a bus, or of a preview: see `handling`.

    A transaction of many rows loses to others that write the same products; it is then tried with half as many, and
    grows again while it succeeds. So an import gives way to a busy service, and still gets on.
    """

    handle_together: Callable[[Sequence[Request]], list[Outcome]]
    kind: Kind
    columns: Mapping[str, str]
    shortages: Shortages = field(default_factory=Shortages)

    def __call__(self, rows: Iterable[Row]) -> Iterator[list[RowResult]]:
        """The results of the rows in their order, as they are committed.

        Raises BadCsv after the rows before the bad one are done, and Unavailable after those that could be done.
        """
        correlation_id, principal = str(uuid4()), user_principal()
        self.shortages.metadata = Metadata.first(IMPORT, correlation_id, principal)
        readings = _each_once(self.kind.readings(rows, self.columns))
        size = MOST_ROWS_TOGETHER
        setbacks = 0
        for chunk in _chunks(readings, MOST_ROWS_TOGETHER):
            done = 0
            while done < len(chunk):
                some = chunk[done : done + size]
                try:
                    results = self._settle(some, correlation_id, principal)
                except Unavailable as error:
                    setbacks += 1
                    if setbacks > MOST_SETBACKS or not isinstance(error.__cause__, ConcurrencyConflict):
                        raise
                    size = max(1, size // 2)
                else:
                    yield results
                    done += len(some)
                    size = min(size + size // 8 + 1, MOST_ROWS_TOGETHER)
                    setbacks = 0

    def _settle(self, chunk: Sequence[Reading], correlation_id: str, principal: str) -> list[RowResult]:
        requests = [
            Request(reading.command, Metadata.first(IMPORT, correlation_id, principal))
            for reading in chunk
            if not reading.refused
        ]
        outcomes = iter(self.handle_together(requests) if requests else [])
        return [row for reading in chunk for row in self._results(reading, outcomes)]

    def _results(self, reading: Reading, outcomes: Iterator[Outcome]) -> list[RowResult]:
        if reading.refused:
            return _with_reasons(reading.numbers, Result.REFUSED, reading.refused)
        command, outcome = cast("Allocate | PlaceOrder", reading.command), next(outcomes)
        if outcome.refusal:  # where nothing of a SKU was ever purchased: no stock, or a slip of the pen
            is_short = isinstance(outcome.refusal, InvalidSku) and not self.kind.mode
            result = Result.OUT_OF_STOCK if is_short else Result.REFUSED
            return _with_reasons(reading.numbers, result, [str(outcome.refusal)] * len(reading.numbers))
        found = self.kind.result_of(command, outcome)
        if found[0][0] is Result.OUT_OF_STOCK:
            for line in _short_of(command, outcome):
                self.shortages.add(line)
        rows = zip(reading.numbers, found, strict=True)
        return [RowResult(number, *of_row, needs_attention=_has_expired(command)) for number, of_row in rows]


def _has_expired(command: object) -> bool:
    """A slip in the year, for most: nothing of it will be sold."""
    return isinstance(command, CreateBatch) and bool(command.expires and command.expires < datetime.now(UTC).date())


def _with_reasons(numbers: Sequence[int], result: Result, reasons: Sequence[str]) -> list[RowResult]:
    rows = zip(numbers, reasons, strict=True)
    return [RowResult(number, result, reason, needs_attention=True) for number, reason in rows]


def _short_of(cmd: Allocate | PlaceOrder, outcome: Outcome) -> list[OrderLine]:
    lines = _lines_of(cmd)
    if isinstance(cmd, Allocate):
        return lines
    short = {one["lineid"] for one in outcome.result["shortages"]}
    return [line for line in lines if line.lineid in short]


@contextmanager
def handling(bus: MessageBus[U], *, dry_run: bool) -> Iterator[Callable[[Sequence[Request]], list[Outcome]]]:
    """How an import has its requests handled: by the bus, giving up soon where others are faster, since it goes on with
    fewer rows then. In a dry run all of them are previewed in one transaction that is never committed."""
    if dry_run:
        with bus.preview() as preview:
            yield lambda requests: preview(requests)[0]
    else:
        yield replace(bus, retry=replace(bus.retry, conflict_deadline=0.1)).handle_together


def _chunks(readings: Iterable[Reading], most: int) -> Iterator[list[Reading]]:
    """Of so many rows, or of one reading that has more; when the file can't be read any further, what was read before
    the fault, and then the fault."""
    chunk: list[Reading] = []
    rows = 0
    try:
        for reading in readings:
            if chunk and rows + len(reading.numbers) > most:
                yield chunk
                chunk, rows = [], 0
            chunk.append(reading)
            rows += len(reading.numbers)
    except BadCsv:
        yield chunk
        raise
    yield chunk
