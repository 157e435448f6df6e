"""Rows from a CSV file, plain or gzipped, of any size, each with the number by which a person finds it."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from allocation.spelling import folded

LONGEST_ROW = 1024 * 1024
STDIN = Path("-")

MOST_CLEARED = 1_048_576
"""Empty rows in a row after which no more is read: the sheets of a spreadsheet have no more rows than this."""

_LONGEST_SHOWN = 60
_SEPARATORS = ",;\t"
_SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?\r?\n?', re.IGNORECASE)
_BYTE_ORDER_MARK = "\ufeff"
REPLACEMENT = "\ufffd"
"""Stands where something is no text."""
_NOT_UTF_8 = "is not text in UTF-8; if the file is in Windows-1252, save it as CSV in UTF-8"
_OTHERS = {
    b"PK\x03\x04": "the beginning of a workbook (.xlsx), or another zip file",
    b"\xd0\xcf\x11\xe0": "the beginning of a workbook (.xls)",
    b"\xff\xfe": "in UTF-16",
    b"\xfe\xff": "in UTF-16",
}
_FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")  # the last four are wide
_GZIP_MAGIC = b"\x1f\x8b"
_DAMAGED_GZIP = (gzip.BadGzipFile, zlib.error, EOFError)


class BadCsv(Exception):
    """The file can't be read any further; says which row is at fault, and how the rest is imported."""

    def __init__(
        self, row: int, fault: str, mend: str = "mend that row, and import the file again for the rest"
    ) -> None:
        super().__init__(f"row {row} {fault}")
        self.mend = mend


class UnfitColumns(Exception):
    """A column that is needed is not there, or is there twice."""


@dataclass(frozen=True, slots=True)
class Row:
    """Texts by column. The header is row 1, and empty lines count, as they do in a spreadsheet.

    A row with a `fault` can't be taken, but those behind it can; its texts are there if it has a cell for each column.
    """

    number: int
    values: Mapping[str, str]
    fault: str = ""


class CsvFile:
    """Iterate once. UTF-8, with or without a byte order mark, and with commas, semicolons or tabs. Rows without a
    single cell are passed over; a fault is found in its own row, and not before.

    No more than one row, of at most LONGEST_ROW bytes, is held at a time.
    """

    def __init__(self, stream: io.BufferedIOBase, raw: io.BufferedReader) -> None:
        self._stream = stream
        self._raw = raw
        self._room = LONGEST_ROW
        self._is_text = True
        self._is_ended = True
        self._records = self._parsed()
        self.rows_read = 0
        self.columns = self._header()
        self._nameless = [place for place, column in enumerate(self.columns) if not column.strip()]
        self._any_row = False
        self.needed: set[str] | None = None
        """Columns in which each row must have a cell; None: all."""

    @property
    def size(self) -> int | None:
        """Of the file as it lies on the disk; a pipe has none."""
        return os.fstat(self._raw.fileno()).st_size if self._raw.seekable() else None

    @property
    def bytes_read(self) -> int:
        """Of that size."""
        return self._raw.tell() if self._raw.seekable() else 0

    def require(self, column: str) -> None:
        """Raises UnfitColumns."""
        if column not in self.columns:
            raise UnfitColumns(f"there is no column {column!r} among {', '.join(map(repr, self.columns))}")
        if self.columns.count(column) > 1:
            raise UnfitColumns(f"there is more than one column {column!r}")

    def __iter__(self) -> Iterator[Row]:
        """Raises BadCsv."""
        cleared = 0
        names = {*map(folded, self.columns if self.needed is None else self.needed)} - {""}
        while (record := self._next_record()) is not None:
            if not any(map(str.strip, record)):
                cleared += 1
                if cleared > MOST_CLEARED:
                    raise BadCsv(
                        self.rows_read, f"is empty, as {MOST_CLEARED:,} before it are; nothing is read behind it"
                    )
                continue
            cleared = 0
            has_a_number = len(record) == len(self.columns) and any(map(str.isdigit, record))  # that is quickly seen
            if not has_a_number and _has(names, record):
                yield self._header_again(record)
                continue
            fault = self._fault_of(record)
            self._any_row = True
            is_whole = len(record) == len(self.columns)
            yield Row(self.rows_read, dict(zip(self.columns, record, strict=True)) if is_whole else {}, fault)

    def _fault_of(self, record: list[str]) -> str:
        """Cells at the end that are empty may be left out, or be there without a column."""
        if not self._is_text:
            return _NOT_UTF_8
        while len(record) > len(self.columns) and not record[-1]:
            record.pop()
        if not self._is_ended and len(record) < len(self.columns):
            return "has neither all its cells nor an end of line; is the file cut short?"
        needed = set(self.columns) if self.needed is None else self.needed
        if len(record) > len(self.columns) or not needed.isdisjoint(self.columns[len(record) :]):
            return f"has {len(record)} fields, but the header has {len(self.columns)}"
        if any(_BYTE_ORDER_MARK in cell for cell in record):
            return "has a byte order mark (U+FEFF); was one file put behind another?"
        record.extend([""] * (len(self.columns) - len(record)))
        return self._fault_of_nameless(record)

    def _fault_of_nameless(self, record: list[str]) -> str:
        """Raises BadCsv for the first row: then they are all like it."""
        for place in self._nameless:
            if record[place].strip():
                fault = f"has {record[place][:_LONGEST_SHOWN]!r} in column {place + 1}, which has no name"
                if self._any_row:
                    return f"{fault}; name it in the header"
                raise BadCsv(self.rows_read, fault, "name it in the header, and import the file again")
        return ""

    def _header_again(self, record: list[str]) -> Row:
        """Raises BadCsv where it is another one."""
        if _spelled(record) != _spelled(self.columns):
            fault = "names the columns anew, and not as row 1 does; was one file put behind another?"
            raise BadCsv(self.rows_read, fault, "part them, and import each by itself")
        names = {column: column for column in self.columns}
        return Row(self.rows_read, names, "is the header again; was one file put behind another?")

    def _header(self) -> list[str]:
        header = self._next_record()
        if not header:
            raise BadCsv(1, "is empty, but must name the columns")
        if not self._is_text:
            raise BadCsv(1, _NOT_UTF_8)
        return header

    def _next_record(self) -> list[str] | None:
        self._room = LONGEST_ROW
        self._is_text = True
        row = self.rows_read + 1
        try:
            record = next(self._records, None)
        except csv.Error as error:
            raise BadCsv(row, _in_words(error)) from error
        except _DAMAGED_GZIP as error:
            raise BadCsv(row, f"can't be unpacked: the gzip file is damaged or cut short ({error})") from error
        except OSError as error:
            raise BadCsv(row, f"can't be read: {error.strerror}") from error
        if record is not None:
            self.rows_read = row
        return record

    def _parsed(self) -> Iterator[list[str]]:
        """What stands between cells is said by a line that is not counted, or is seen from the header."""
        lines = self._lines()
        first = next(lines, "")
        if separation := _SEPARATOR_LINE.fullmatch(first):
            separator = separation[1]
        else:
            outside_quotes = "".join(first.split('"')[::2])
            separator = max(_SEPARATORS, key=outside_quotes.count)
            lines = chain([first], lines)
        yield from csv.reader(lines, strict=True, delimiter=separator)

    def _lines(self) -> Iterator[str]:
        encoding = "utf-8-sig"
        while line := self._stream.readline(self._room + 1):
            if encoding == "utf-8-sig" and (kind := _what_else(line)):
                raise csv.Error(f"is {kind}; save it as CSV in UTF-8")
            self._room -= len(line)
            if self._room < 0:
                raise csv.Error(f"is longer than {LONGEST_ROW:,} bytes; is a quote never closed?")
            self._is_ended = line.endswith((b"\n", b"\r"))
            if b"\0" in line:
                raise csv.Error("has a NUL byte")
            try:
                yield line.decode(encoding)
            except UnicodeDecodeError:
                self._is_text = False
                yield line.decode(encoding, "replace")
            encoding = "utf-8"


def _spelled(cells: Iterable[str]) -> list[str]:
    """Without those at the end that are empty."""
    found = [folded(cell) for cell in cells]
    while found and not found[-1]:
        found.pop()
    return found


def _has(names: set[str], record: list[str]) -> bool:
    """Whether all of them are cells, or some, and no number is. One may stand behind the last cell of another file,
    which had no end of line."""
    row = folded("".join(record))
    if sum(name in row for name in names) < min(2, len(names)):
        return False
    cells = _spelled(record)
    missing = [name for name in names if name not in cells]
    if len(names) - len(missing) > 1 and not any(map(str.isdigit, cells)):
        return True
    return not missing or (len(missing) == 1 < len(names) and any(cell.endswith(missing[0]) for cell in cells))


def _what_else(beginning: bytes) -> str | None:
    """What a file is that is no CSV file, by how it begins."""
    for mark, kind in _OTHERS.items():
        if beginning.startswith(mark):
            return kind
    return "in UTF-16" if b"\0" in beginning[:2] and beginning[:2].strip(b"\0") else None


def escaped(cell: str) -> str:
    """So that no spreadsheet runs it: what it takes for a formula is text behind an apostrophe."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _in_words(error: csv.Error) -> str:
    message = str(error)
    if message.startswith(("has", "is")):
        return message
    if "new-line character" in message:
        return "has a carriage return alone; lines must end with LF or CRLF"
    if "field larger" in message:
        return f"has a field longer than {csv.field_size_limit():,} characters; is a quote never closed?"
    return f"has quotes that don't match ({message})"


@contextmanager
def opened(path: Path) -> Iterator[CsvFile]:
    """The file, or standard input for `-`; whether it is gzipped is seen from its first bytes. Raises BadCsv."""
    with open(0, "rb", closefd=False) if path == STDIN else path.open("rb") as raw:
        if raw.peek(2).startswith(_GZIP_MAGIC):
            with gzip.open(raw) as unpacked:
                yield CsvFile(unpacked, raw)
        else:
            yield CsvFile(raw, raw)


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a column's text is, or with `!=` is not, one of some values; the empty text is a value too."""

    column: str
    values: frozenset[str]
    wanted: bool

    @classmethod
    def parse(cls, text: str) -> Condition:
        """`column=value[,value...]` or `column!=value[,value...]`. Raises ValueError."""
        column, equals, values = text.partition("=")
        wanted = not column.endswith("!")
        column = column if wanted else column[:-1]
        if not (equals and column):
            raise ValueError(f"{text!r} is not of the form column=value[,value...] or column!=value[,value...]")
        return cls(column, frozenset(values.split(",")), wanted)

    def holds(self, row: Row) -> bool:
        """A row of which that can't be read might be one that is wanted."""
        value = row.values.get(self.column)
        if row.fault and (value is None or REPLACEMENT in value or _BYTE_ORDER_MARK in value):
            return True
        return (value in self.values) is self.wanted
