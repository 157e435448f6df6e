"""What is allocated, or at risk, as a CSV file of any size."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO

from sqlalchemy import Engine, Executable, and_, select

from allocation.database.tables import allocations_view, batches
from allocation.entrypoints.bulk.csv_files import escaped
from allocation.entrypoints.bulk.progress import Show
from allocation.views import at_risk
from allocation.whole_files import is_link_of_another, replacing
from messaging.sql.connections import connection

STDOUT = Path("-")

_ROWS_AT_A_TIME = 2_000


@dataclass(frozen=True, slots=True)
class Export:
    """What is written: the `columns` of a query, a row for each of what is `called` so. `counted`: the table that has
    as many rows, where one has."""

    called: str
    columns: Sequence[str]
    query: Executable
    about: Mapping[str, object] = field(default_factory=dict)
    counted: str | None = None


def allocations() -> Export:
    """One row per allocated line, in the order of allocation."""
    of_line, of_batch = ("orderid", "lineid", "sku", "qty", "batchref"), ("expires", "location")
    query = (
        select(*(allocations_view.c[name] for name in of_line), *(batches.c[name] for name in of_batch))
        .join_from(
            allocations_view,
            batches,
            and_(batches.c.reference == allocations_view.c.batchref, batches.c.sku == allocations_view.c.sku),
        )
        .order_by(allocations_view.c.position)
    )
    return Export("allocated lines", of_line + of_batch, query, counted=allocations_view.name)


def lines_at_risk(time_zone: str) -> Export:
    """As the view has them."""
    columns = [column.name for column in fields(at_risk.AtRisk)]
    return Export("lines at risk", columns, at_risk.EXPORTED, at_risk.place(None, None, None) | {"zone": time_zone})


def write(export: Export, engine: Engine, path: Path, show: Show) -> int:
    """Write them, and return how many.

    All rows are of one moment. The file appears, or replaces an older one, when it is complete. Raises Unavailable.
    """
    in_parts = {"yield_per": _ROWS_AT_A_TIME}  # a cursor on the server, so that neither side holds it all
    with connection(engine, "REPEATABLE READ") as open_connection, _opened(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(export.columns)
        count = 0
        rows = open_connection.execute(export.query, export.about, execution_options=in_parts)
        for some in rows.partitions():
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
        elif path.exists() and not (path.is_file() or is_link_of_another(path)):
            raw = stack.enter_context(path.open("wb"))
        else:
            raw = stack.enter_context(replacing(path))
        packed = stack.enter_context(gzip.open(raw, "wb", compresslevel=6)) if path.suffix.lower() == ".gz" else raw
        text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        try:
            yield text
        finally:
            text.detach()
