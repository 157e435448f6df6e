"""The allocations as a CSV file, of any size."""

from __future__ import annotations

import csv
import gzip
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import IO

from sqlalchemy import Engine, and_, select

from allocation.database.tables import allocations_view, batches
from allocation.entrypoints.bulk.csv_files import escaped
from allocation.entrypoints.bulk.progress import Show
from messaging.sql.connections import connection

STDOUT = Path("-")

_OF_LINE = ("orderid", "lineid", "sku", "qty", "batchref")
_OF_BATCH = ("expires", "location")
_ROWS_AT_A_TIME = 2_000


def export_allocations(engine: Engine, path: Path, show: Show) -> int:
    """Write one row per allocated line, in the order of allocation, and return how many.

    All rows are of one moment. The file appears, or replaces an older one, when it is complete. Raises Unavailable.
    """
    query = (
        select(*(allocations_view.c[name] for name in _OF_LINE), *(batches.c[name] for name in _OF_BATCH))
        .join_from(
            allocations_view,
            batches,
            and_(batches.c.reference == allocations_view.c.batchref, batches.c.sku == allocations_view.c.sku),
        )
        .order_by(allocations_view.c.position)
        .execution_options(yield_per=_ROWS_AT_A_TIME)  # a cursor on the server, so that neither side holds it all
    )
    with connection(engine, "REPEATABLE READ") as open_connection, _opened(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_OF_LINE + _OF_BATCH)
        count = 0
        for some in open_connection.execute(query).partitions():
            writer.writerows([escaped(cell) if isinstance(cell, str) else cell for cell in row] for row in some)
            count += len(some)
            show(count, f"{count:,} lines")
    return count


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """Text to the path, gzipped if its name says so; only what can be replaced is: never a device or a pipe."""
    with ExitStack() as stack:
        if path == STDOUT:
            raw: IO[bytes] = sys.stdout.buffer
        elif path.exists() and not path.is_file():
            raw = stack.enter_context(path.open("wb"))
        else:
            raw = stack.enter_context(_replacing(path.resolve()))
        packed = stack.enter_context(gzip.open(raw, "wb", compresslevel=6)) if path.suffix == ".gz" else raw
        text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        try:
            yield text
        finally:
            text.detach()


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside the path, which takes its place, with its permissions, when all is written and on the disk.
    Where others may write into the folder it has a name that they can't know, and is none that they have put there."""
    beside = path.with_name(f".{path.name}.{token_hex(8)}.part")
    with beside.open("xb") as stream:
        try:
            if path.exists():
                os.fchmod(stream.fileno(), stat.S_IMODE(path.stat().st_mode))
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
