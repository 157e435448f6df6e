"""Statements whose text does not depend on how many rows they write: parameters are arrays, one per column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from sqlalchemy import ARRAY, ColumnClause, Executable, FromClause, Insert, Table, Text, bindparam, func, insert, select
from sqlalchemy.types import TypeEngine

Statement: TypeAlias = tuple[Executable, Mapping[str, Any]]
Row: TypeAlias = Mapping[str, Any]


class Writer(Protocol):
    """A part of a unit of work that has something to write when it is committed."""

    def statements(self) -> Iterable[Statement]: ...


def rows_of(*columns: ColumnClause[Any]) -> FromClause:
    """The rows that arrive as one array parameter per column, under the columns' names."""
    arrays = [bindparam(f"given_{column.name}", type_=ARRAY(_bare(column.type), dimensions=1)) for column in columns]
    return func.unnest(*arrays).table_valued(*(column.name for column in columns), name="given").render_derived()


def insert_rows(table: Table, *names: str) -> Insert:
    """Insert any number of rows, in the order given."""
    rows = rows_of(*(table.c[name] for name in names))
    return insert(table).from_select(names, select(*(rows.c[name] for name in names)))


def arrays_of(rows: Sequence[Row]) -> Mapping[str, list[Any]]:
    """Rows turned into the parameters of such a statement."""
    return {f"given_{name}": [row[name] for row in rows] for name in rows[0]}


def _bare(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type without a collation, which an array type can't bear."""
    return Text() if isinstance(kind, Text) else kind
