"""Rows of a file as commands, many to a transaction, each with a result of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, TypeVar, cast
from uuid import uuid4

from allocation.domain.commands import Allocate, CreateBatch, ReportShortages
from allocation.domain.errors import InvalidSku
from allocation.entrypoints.bulk.csv_files import BadCsv, Row, unescaped
from allocation.entrypoints.command_line.os_user import user_principal
from allocation.service_layer.mails import IMPORT
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

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,100}")


class Result(StrEnum):
    ADDED = "added"
    ALLOCATED = "allocated"
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
    optional: str
    results: tuple[Result, ...]
    result_of: Callable[[Any, Outcome], tuple[Result, str]]

    @property
    def fields(self) -> tuple[str, ...]:
        return *self.required, self.optional

    def columns(self, mapped: Mapping[str, str], found: Iterable[str]) -> dict[str, str]:
        """Where each field is taken from; an optional one that is mapped to nothing, or not found, is left out."""
        columns = {field: mapped.get(field, field) for field in self.fields}
        if not mapped.get(self.optional, self.optional in found):
            del columns[self.optional]
        return columns

    def command(self, row: Row, columns: Mapping[str, str]) -> object:
        """Raises BadInput."""
        if row.fault:
            raise BadInput(row.fault)
        given: dict[str, object] = {field: unescaped(row.values[column]) for field, column in columns.items()}
        if not given.get(self.optional):
            given.pop(self.optional, None)
        qty = str(given["qty"])
        if _WHOLE_NUMBER.fullmatch(qty):
            given["qty"] = int(qty)
        return self.schema.read_fields(given)


def _result_of_batch(cmd: CreateBatch, outcome: Outcome) -> tuple[Result, str]:
    result = Result.ADDED if outcome.changed else Result.ALREADY_THERE
    return result, f"batch {cmd.ref}, {cmd.qty:,} of {cmd.sku}, {f'eta {cmd.eta}' if cmd.eta else 'in the warehouse'}"


def _result_of_line(cmd: Allocate, outcome: Outcome) -> tuple[Result, str]:
    line = f"order {cmd.orderid}, line {cmd.lineid}, {cmd.qty:,} of {cmd.sku}"
    if outcome.result is None:
        return Result.OUT_OF_STOCK, line
    result = Result.ALLOCATED if outcome.changed else Result.ALREADY_THERE
    return result, f"{line} from batch {outcome.result}"


BATCHES = Kind(
    schema=CREATE_BATCH,
    required=("ref", "sku", "qty"),
    optional="eta",
    results=(Result.ADDED, Result.ALREADY_THERE, Result.REFUSED),
    result_of=_result_of_batch,
)
ORDERS = Kind(
    schema=ALLOCATE,
    required=("orderid", "sku", "qty"),
    optional="lineid",
    results=(Result.ALLOCATED, Result.OUT_OF_STOCK, Result.ALREADY_THERE, Result.REFUSED),
    result_of=_result_of_line,
)


@dataclass(slots=True)
class Shortages:
    """What a file asked for that is out of stock: all of it as a hash, which is the same for the same lines."""

    lines: int = 0
    first: Allocate | None = None
    listed: list[str] = field(default_factory=list)
    metadata: Metadata | None = None
    _hash: Any = field(default_factory=sha256)

    def add(self, line: Allocate) -> None:
        self.lines += 1
        self.first = self.first or line
        self._hash.update(json.dumps([line.orderid, line.lineid, line.sku, line.qty]).encode())
        if len(self.listed) < MOST_LISTED:
            self.listed.append(f"{line.sku}: order {line.orderid}, line {line.lineid}, asked for {line.qty:,}")

    def report(self, bus: MessageBus[U]) -> None:
        """Have them told; of the same lines again within a day nothing is. Raises Unavailable."""
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
        readings = (self._read(row, correlation_id, principal) for row in rows)
        size = MOST_ROWS_TOGETHER
        setbacks = 0
        for chunk in _chunks(readings, MOST_ROWS_TOGETHER):
            done = 0
            while done < len(chunk):
                try:
                    results = self._settle(chunk[done : done + size])
                except Unavailable as error:
                    setbacks += 1
                    if setbacks > MOST_SETBACKS or not isinstance(error.__cause__, ConcurrencyConflict):
                        raise
                    size = max(1, size // 2)
                else:
                    yield results
                    done += len(results)
                    size = min(size + size // 8 + 1, MOST_ROWS_TOGETHER)
                    setbacks = 0

    def _read(self, row: Row, correlation_id: str, principal: str) -> _Reading:
        try:
            command = self.kind.command(row, self.columns)
        except BadInput as error:
            return _Reading(row.number, error)
        return _Reading(row.number, Request(command, Metadata.first(IMPORT, correlation_id, principal)))

    def _settle(self, chunk: Sequence[_Reading]) -> list[RowResult]:
        requests = [reading.content for reading in chunk if isinstance(reading.content, Request)]
        outcomes = iter(self.handle_together(requests) if requests else [])
        return [self._result(reading, outcomes) for reading in chunk]

    def _result(self, reading: _Reading, outcomes: Iterator[Outcome]) -> RowResult:
        if isinstance(reading.content, BadInput):
            return RowResult(reading.number, Result.REFUSED, str(reading.content), needs_attention=True)
        outcome = next(outcomes)
        if isinstance(outcome.refusal, InvalidSku):  # nothing of it was ever purchased: no stock, or a slip of the pen
            return RowResult(reading.number, Result.OUT_OF_STOCK, str(outcome.refusal), needs_attention=True)
        if outcome.refusal:
            return RowResult(reading.number, Result.REFUSED, str(outcome.refusal), needs_attention=True)
        result, detail = self.kind.result_of(reading.content.command, outcome)
        if result is Result.OUT_OF_STOCK:
            self.shortages.add(cast(Allocate, reading.content.command))
        return RowResult(reading.number, result, detail)


@contextmanager
def handling(bus: MessageBus[U], *, dry_run: bool) -> Iterator[Callable[[Sequence[Request]], list[Outcome]]]:
    """How an import has its requests handled: by the bus, giving up soon where others are faster, since it goes on with
    fewer rows then. In a dry run all of them are previewed in one transaction that is never committed."""
    if dry_run:
        with bus.preview() as preview:
            yield lambda requests: preview(requests)[0]
    else:
        yield replace(bus, retry=replace(bus.retry, conflict_deadline=0.1)).handle_together


@dataclass(frozen=True, slots=True)
class _Reading:
    number: int
    content: Request | BadInput


def _chunks(readings: Iterable[T], size: int) -> Iterator[list[T]]:
    """By the `size`; when the file can't be read any further, what was read before the fault, and then the fault."""
    chunk: list[T] = []
    try:
        for reading in readings:
            chunk.append(reading)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except BadCsv:
        yield chunk
        raise
    yield chunk
