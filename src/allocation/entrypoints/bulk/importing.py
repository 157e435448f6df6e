"""Rows of a file as commands, many to a transaction, each with a result of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar, cast

from allocation.domain.commands import Allocate, CreateBatch, PlaceOrder, ReportShortages
from allocation.domain.errors import InvalidSku
from allocation.domain.lines import OrderLine
from allocation.domain.values import Mode
from allocation.entrypoints.bulk.csv_files import BadCsv, Row
from allocation.entrypoints.bulk.kinds import FileKind, Reading, Result
from allocation.entrypoints.command_line.os_user import user_principal
from allocation.service_layer.mails import IMPORT
from allocation.service_layer.messages.ordering import MOST_LISTED
from allocation.validation import ALLOCATE, CREATE_BATCH
from messaging.bus import MessageBus
from messaging.envelope import Metadata, Outcome, Request
from messaging.errors import ConcurrencyConflict, Unavailable
from messaging.unit_of_work import UnitOfWork

MOST_ROWS_TOGETHER = 250
"""In one transaction; more gain little, and hold up those who write the same products for longer."""

MOST_SETBACKS = 60
"""Conflicts in a row after which an import gives up. Each takes a tenth of a second; after the first few only one row
is tried."""

T = TypeVar("T")
U = TypeVar("U", bound=UnitOfWork)


@dataclass(frozen=True, slots=True)
class RowResult:
    number: int
    result: Result
    detail: str
    needs_attention: bool = False

    def __str__(self) -> str:
        return f"row {self.number}: {self.result}: {self.detail}"


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


BATCHES = FileKind(
    schema=CREATE_BATCH,
    required=("ref", "sku", "qty"),
    optional=("eta", "expires", "location"),
    results=(Result.ADDED, Result.ALREADY_THERE, Result.REFUSED),
    result_of=_result_of_batch,
)
ORDERS = FileKind(
    schema=ALLOCATE,
    required=("orderid", "sku", "qty"),
    optional=("lineid",),
    results=(Result.ALLOCATED, Result.OUT_OF_STOCK, Result.ALREADY_THERE, Result.REFUSED),
    result_of=_result_of_line,
)


def whole_orders(mode: Mode) -> FileKind:
    """Neighbouring rows of one order are placed together."""
    results = (Result.ALLOCATED, Result.PARTLY_ALLOCATED, Result.WAITING, *ORDERS.results[1:])
    return replace(ORDERS, results=results, result_of=_result_of_order, mode=mode)


@dataclass(slots=True)
class Shortages:
    """What a file asked for that is out of stock: all of it as a hash, which is the same for the same lines."""

    lines: int = 0
    first: OrderLine | None = None
    listed: list[str] = field(default_factory=list)
    metadata: Metadata = field(default_factory=lambda: Metadata.first(IMPORT, principal=user_principal()))
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
    kind: FileKind
    columns: Mapping[str, str]
    shortages: Shortages = field(default_factory=Shortages)

    def __call__(self, rows: Iterable[Row]) -> Iterator[list[RowResult]]:
        """The results of the rows in their order, as they are committed.

        Raises BadCsv after the rows before the bad one are done, and Unavailable after those that could be done.
        """
        readings = self.kind.readings(rows, self.columns)
        size = MOST_ROWS_TOGETHER
        setbacks = 0
        for chunk in _chunks(readings, MOST_ROWS_TOGETHER):
            done = 0
            while done < len(chunk):
                some = chunk[done : done + size]
                try:
                    results = self._settle(some)
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

    def _settle(self, chunk: Sequence[Reading]) -> list[RowResult]:
        of = self.shortages.metadata
        requests = [
            Request(reading.command, Metadata.first(IMPORT, of.correlation_id, of.principal))
            for reading in chunk
            if not reading.refused
        ]
        outcomes = iter(self.handle_together(requests) if requests else [])
        return [row for reading in chunk for row in self._results(reading, outcomes)]

    def _results(self, reading: Reading, outcomes: Iterator[Outcome]) -> list[RowResult]:
        if reading.refused:
            return _with_reasons(reading.numbers, Result.REFUSED, reading.refused)
        command, outcome = cast("CreateBatch | Allocate | PlaceOrder", reading.command), next(outcomes)
        if outcome.refusal:  # where nothing of a SKU was ever purchased: no stock, or a slip of the pen
            is_short = isinstance(outcome.refusal, InvalidSku) and not self.kind.mode
            result = Result.OUT_OF_STOCK if is_short else Result.REFUSED
            return _with_reasons(reading.numbers, result, [str(outcome.refusal)] * len(reading.numbers))
        found = self.kind.result_of(command, outcome)
        if found[0][0] is Result.OUT_OF_STOCK and not isinstance(command, CreateBatch):
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
