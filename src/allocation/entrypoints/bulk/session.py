"""One import or export from its beginning to its end: the file, the database, and what a person sees of it."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from sqlalchemy import Engine

from allocation.bootstrap import Service
from allocation.config import Settings
from allocation.entrypoints.bulk.csv_files import BadCsv, Condition, CsvFile, Row, UnfitColumns, opened
from allocation.entrypoints.bulk.exporting import STDOUT, Export, write
from allocation.entrypoints.bulk.importing import BATCHES, Import, RowResult, Shortages, handling
from allocation.entrypoints.bulk.kinds import FileKind, Result
from allocation.entrypoints.bulk.progress import Show, progress
from allocation.entrypoints.command_line.failures import INTERRUPTED, interruptible
from allocation.entrypoints.command_line.output import echo_json, in_json
from allocation.entrypoints.command_line.sessions import database, service
from allocation.entrypoints.memory import settle_memory
from allocation.spelling import has_words
from allocation.validation import is_near, is_spelled_like
from messaging.errors import Unavailable
from messaging.sql.estimates import rows_about

_ALSO_CALLED = {
    "eta": ("etadate", "arrivaldate", "expectedarrival", "estimatedarrival", "expecteddelivery"),
    "expires": ("expiry", "expirydate", "expiration", "expirationdate", "expdate", "bestbefore", "useby", "sellby"),
    "location": ("locationid",),
    "lineid": ("lineno", "linenr", "linenum", "linenumber", "lineitemno", "lineitemnumber"),
}
_SIMPLY_CALLED = {
    "eta": ("poeta", "etautc", "arrival", "expected", "expecteddate", "deliverydate"),
    "expires": ("exp", "bbe", "bbd", "validuntil"),
    "location": ("loc", "locid"),
    "lineid": ("line", "orderline", "lineitem", "lineitemid", "polineno", "orderlinenumber", "pos"),
}
"""Among other words they say something else: `line total`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What is typed beside the kind of the file."""

    file: Path
    mapped: dict[str, str]
    where: list[Condition]
    limit: int | None
    dry_run: bool
    verbose: bool
    as_json: bool


def import_file(settings: Settings, kind: FileKind, options: ImportOptions) -> None:
    """Exit with 0 if every row was taken. Raises ClickException, Unavailable."""
    where = options.where
    fault, mend, is_interrupted = "", "import the file again for the rest", False
    report: Report | None = None
    try:
        with ExitStack() as stack:
            go_on = stack.enter_context(interruptible())
            rows = stack.enter_context(_readable(options.file))
            columns = _columns(kind, options.mapped, where, rows)
            wired = stack.enter_context(service(settings))
            wanted = (row for row in rows if all(condition.holds(row) for condition in where))
            settle_memory()
            report = Report(kind, rows, go_on, verbose=options.verbose, as_json=options.as_json)
            used = {*columns.values(), *(condition.column for condition in where)}
            report.passed_over = [column for column in rows.columns if column and column not in used]
            try:
                _import(wired, kind, kind.first(wanted, options.limit, columns), columns, report, options.dry_run)
            except BadCsv as error:
                fault, mend = str(error), error.mend
            except Unavailable as error:
                fault = str(error).splitlines()[0]
    except KeyboardInterrupt:
        fault, is_interrupted = "interrupted", True
        if report is None:
            raise _Interrupted("interrupted before the first row. Nothing is done.") from None
    report.tell_counts(dry_run=options.dry_run)
    if where and not (report.last_row or fault):
        click.echo(f"None of {report.rows_read - 1:,} rows is one that --where asks for.", err=True)
    if fault:
        how_far = f"Rows up to {report.last_row} are done" if report.last_row else "Nothing is done"
        stop = "" if fault.endswith("?") else "."
        text = fault if options.dry_run else f"{fault}{stop} {how_far}; {mend}."
        raise _Interrupted(text) if is_interrupted else click.ClickException(text)
    if report.any_refused:
        raise SystemExit(1)


def _import(  # noqa: PLR0917 - what an import consists of
    wired: Service, kind: FileKind, rows: Iterable[Row], columns: Mapping[str, str], report: Report, dry_run: bool
) -> None:
    """Also of what was done before a fault it is reported which lines are short. Raises BadCsv, Unavailable."""
    shortages = Shortages()
    with handling(wired.bus, dry_run=dry_run) as handle_together:
        try:
            report.follow(Import(handle_together, kind, columns, shortages)(rows))
        finally:
            if not (dry_run or isinstance(sys.exception(), Unavailable)):
                shortages.report(wired.bus)
    if kind is BATCHES:
        report.overdue = wired.views.due_dates().overdue_batches


def export_file(settings: Settings, export: Export, file: Path, *, as_json: bool) -> None:
    """Raises ClickException, Unavailable."""
    with interruptible() as go_on, database(settings) as engine:

        def follow(count: int, text: str) -> None:
            show(count, text)
            go_on()

        try:
            with _progress_of(engine, export, file) as show:
                count = write(export, engine, file, follow)
        except BrokenPipeError:  # whoever read it has had enough
            raise
        except OSError as error:
            raise click.ClickException(f"can't write {file}: {error.strerror}") from error
    text = in_json({"file": str(file), "lines": count})
    click.echo(text if as_json else f"{count:,} {export.called} written", err=file == STDOUT)


class Report:
    """Refused rows, or all of them, how far it is, and the counts."""

    def __init__(
        self, kind: FileKind, file: CsvFile, go_on: Callable[[], None], *, verbose: bool, as_json: bool
    ) -> None:
        self._kind = kind
        self._file = file
        self._go_on = go_on
        self._verbose = verbose
        self._as_json = as_json
        self._counts: Counter[Result] = Counter()
        self.last_row = 0
        self.passed_over: list[str] = []
        """Columns."""
        self.overdue: int | None = None
        """Batches, these and others."""

    @property
    def rows_read(self) -> int:
        """The header is one."""
        return self._file.rows_read

    @property
    def any_refused(self) -> bool:
        return bool(self._counts[Result.REFUSED])

    @property
    def counts(self) -> str:
        return ", ".join(f"{self._counts[result]:,} {result}" for result in self._kind.results)

    @property
    def counts_by_result(self) -> dict[str, object]:
        """By names that are the same whatever is counted."""
        return {str(result).replace(" ", "_"): self._counts[result] for result in self._kind.results}

    def tell_counts(self, *, dry_run: bool) -> None:
        if self._as_json:
            about = {"dry_run": dry_run, "columns_passed_over": self.passed_over}
            overdue = {} if self.overdue is None else {"overdue_batches": self.overdue}
            echo_json(self.counts_by_result | about | overdue)
            return
        if self.passed_over:
            click.echo(f"Columns passed over: {', '.join(map(repr, self.passed_over))}.", err=True)
        if self.overdue:
            is_one = self.overdue == 1
            what = "batch is overdue: receive it" if is_one else "batches are overdue: receive them"
            click.echo(f"In all, {self.overdue:,} {what}, or state another ETA.", err=True)
        click.echo(f"{self.counts} (dry run: nothing was changed)" if dry_run else self.counts)

    def follow(self, results: Iterable[list[RowResult]]) -> None:
        """Results to stdout, how far it is to stderr."""
        with progress(self._file.size) as show:
            for some in results:
                for row in some:
                    self._counts[row.result] += 1
                    self.last_row = row.number
                    if self._verbose or row.needs_attention:
                        sys.stdout.write(f"{_json(row) if self._as_json else row}\n")
                sys.stdout.flush()
                show(self._file.bytes_read, self.counts)
                self._go_on()


def _json(row: RowResult) -> str:
    return in_json({"row": row.number, "result": row.result, "detail": row.detail})


@contextmanager
def _progress_of(engine: Engine, export: Export, file: Path) -> Iterator[Show]:
    """How far an export is, on a terminal where it does not get in the way of the lines, and nothing elsewhere."""
    if file == STDOUT and sys.stdout.isatty():
        yield lambda _done, _text: None
    else:
        total = rows_about(engine, export.counted) if export.counted else None
        with progress(total, seconds_between_lines=math.inf) as show:
            yield show


@contextmanager
def _readable(path: Path) -> Iterator[CsvFile]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(opened(path))
        except OSError as error:
            raise click.ClickException(f"can't read {path}: {error.strerror}") from error
        except BadCsv as error:
            raise click.ClickException(f"can't read {path}: {error}") from error
        yield file


class _Interrupted(click.ClickException):
    """By Ctrl-C."""

    exit_code = INTERRUPTED


class _DoesNotFit(click.ClickException):
    """The options are well-formed, but not for this file; nothing was done."""

    exit_code = 2


def _columns(kind: FileKind, mapped: dict[str, str], where: list[Condition], file: CsvFile) -> dict[str, str]:
    for field, column in mapped.items():
        if field not in kind.fields:
            raise click.UsageError(f"there is no field {field!r} to map; there are {', '.join(kind.fields)}")
        if field in kind.required and not column:
            raise click.UsageError(f"'{field}=' is not of the form field=column, and every row needs {field}")
    columns = kind.columns(mapped, file.columns)
    hints = {condition.column: "--where names it" for condition in where}
    hints |= {column: f"say with --map {field}=COLUMN where {field} is" for field, column in columns.items()}
    for column, hint in hints.items():
        try:
            file.require(column)
        except UnfitColumns as error:
            raise _DoesNotFit(f"{error}; {hint}") from error
    others = [column for column in file.columns if column not in columns.values()]
    for field in kind.fields:
        if field not in mapped:
            _require_no_near_miss(kind, field, others, is_there=field in columns)
    file.needed = {columns[field] for field in kind.required}
    return columns


def _require_no_near_miss(kind: FileKind, field: str, others: Iterable[str], *, is_there: bool) -> None:
    """What is left out in silence for a slip of the pen changes what a row means."""
    is_meant, beside = (is_spelled_like, "beside") if is_there else (_is_nearly, "but none")
    or_none = f", or with --map {field}= that there is none" if field in kind.optional else ""
    for column in others:
        if is_meant(column, field):
            text = f"there is a column {column!r}, {beside} {field!r}"
            raise _DoesNotFit(f"{text}; say with --map {field}=COLUMN where {field} is{or_none}")


def _is_nearly(column: str, field: str) -> bool:
    names = (field, *_ALSO_CALLED.get(field, ()))
    if any(is_spelled_like(column, name) for name in (*names, *_SIMPLY_CALLED.get(field, ()))):
        return True
    return is_near(column, field) or any(has_words(column, name) for name in names)
