"""What a unit of work asks and writes, in as few round trips and statements as can be.

Rows travel as one JSON array, so the text of a statement does not depend on how many there are: it is compiled once,
and prepared once a connection. Writes to different tables are joined into one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

from pydantic_core import to_json
from sqlalchemy import (
    JSON,
    ClauseElement,
    ColumnClause,
    ColumnCollection,
    ColumnElement,
    FromClause,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import column as a_column
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import TypeEngine

_DIALECT = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # as SQLAlchemy has it

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[tuple[Any, ...]]
"""As they are read: tuples cost least."""


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """A statement that writes rows of one table."""

    table: str
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A statement that reads, and the rows that arrive with it."""

    text: str
    rows: Sequence[Row]


class Ask(Protocol):
    def __call__(self, *queries: Query) -> Mapping[str, Rows]:
        """Read in one round trip: the rows that each query found, by its text."""
        ...


Statement: TypeAlias = tuple[Write, Sequence[Row]]


class Writer(Protocol):
    """A part of a unit of work that has something to write when it is committed."""

    def statements(self) -> Iterable[Statement]: ...


def rows_of(*columns: ColumnClause[Any]) -> FromClause:
    """The rows that arrive with a statement, under the columns' names.

    To the planner it is one row, whatever statistics say of the tables: so each is looked up by its key, in the order
    in which they were given. It takes the condition, which always holds, to be as seldom true as any equality.
    """
    given = [a_column(column.name, _bare(column.type)) for column in columns]
    rows = func.json_to_recordset(bindparam("rows", type_=JSON)).table_valued(*given)
    one = rows.render_derived(name="one", with_types=True)
    first = one.c[columns[0].name]
    return select(*one.c).where(first.is_distinct_from(first).is_(False)).subquery("given")


def insert_rows(table: Table, *names: str) -> Write:
    """Insert any number of rows, in the order given."""
    rows = rows_of(*(table.c[name] for name in names))
    return Write(table.name, compiled(insert(table).from_select(names, select(*(rows.c[name] for name in names)))))


def insert_or_update_rows(
    table: Table, key: Sequence[str], values: Sequence[str], setting: Callable[[ColumnCollection[str, Any]], Row]
) -> Write:
    """Insert rows, in the order given; where their key is taken, set what `setting` makes of the given row."""
    names = [*key, *values]
    rows = rows_of(*(table.c[name] for name in names))
    statement = postgresql.insert(table).from_select(names, select(*(rows.c[name] for name in names)))
    statement = statement.on_conflict_do_update(index_elements=key, set_=setting(statement.excluded))
    return Write(table.name, compiled(statement))


def update_rows(table: Table, key: Sequence[str], values: Sequence[str] = (), *, adds: Sequence[str] = ()) -> Write:
    """Change rows that are known by their `key`: set these values, and add to these counters."""
    rows = rows_of(*(table.c[name] for name in (*key, *values, *adds)))
    now = {name: rows.c[name] for name in values} | {name: table.c[name] + rows.c[name] for name in adds}
    return Write(table.name, compiled(update(table).values(now).where(_is_row(table, rows, key))))


def delete_rows(table: Table, key: Sequence[str]) -> Write:
    rows = rows_of(*(table.c[name] for name in key))
    return Write(table.name, compiled(delete(table).where(_is_row(table, rows, key))))


def _is_row(table: Table, rows: FromClause, key: Sequence[str]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == rows.c[name] for name in key))


def compiled(statement: ClauseElement) -> str:
    """The text that libpq takes, with the rows as `$1`."""
    done = statement.compile(dialect=_DIALECT)
    assert set(done.params) == {"rows"}, f"values are written into the text, not given: {done.params}"
    return str(done)


def as_json(rows: Sequence[Row]) -> bytes:
    return to_json(rows)


def joined(statements: Iterable[Statement]) -> Iterator[tuple[str, list[bytes]]]:
    """As few statements as write no table twice, each with its parameters; those without rows are left out. Of those
    that are joined none sees what another has written."""
    together: dict[str, Statement] = {}
    for write, rows in statements:
        if not rows:
            continue
        if write.table in together:
            yield _as_one(together.values())
            together = {}
        together[write.table] = write, rows
    if together:
        yield _as_one(together.values())


def _as_one(statements: Collection[Statement]) -> tuple[str, list[bytes]]:
    return _join(tuple(write for write, _ in statements)), [as_json(rows) for _, rows in statements]


@lru_cache
def _join(writes: tuple[Write, ...]) -> str:
    """PostgreSQL runs the last part first, and then the others from the last to the first. So they are listed
    backwards, to be run in our order: whoever writes the same rows meets at the first of them."""
    texts = [write.text.replace("$1", f"${number}") for number, write in enumerate(writes, start=1)]
    named = [f"write_{number} AS ({text})" for number, text in enumerate(texts[1:], start=2)]
    others = ", ".join(reversed(named))
    return f"WITH {others} {texts[0]}" if others else texts[0]


def _bare(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type without a collation, which a list of columns can't bear."""
    return Text() if isinstance(kind, Text) else kind
