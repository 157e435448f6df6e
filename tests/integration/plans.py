"""What a statement touches, by the server's own account: each is explained in the very moment before it is carried out.

What is explained is what runs: the text, the parameters and, where the driver has prepared it, the plan that the server
keeps for it on that connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import tuple_row

from allocation.database import tables
from messaging.sql import tables as messaging_tables
from messaging.sql.round_trip import Driver, RoundTrips, Rows, Sent

TABLES = {name for metadata in (tables.metadata, messaging_tables.metadata) for name in metadata.tables}

_OURS = re.compile(rf"\b({'|'.join(TABLES)})\b")
_STATEMENT = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b")
_PARAMETER = re.compile(r"%\((\w+)\)s")
_UNDONE = """
    DECLARE plan text;
    BEGIN
        EXECUTE {} INTO plan;
        RAISE EXCEPTION 'undo it';
    EXCEPTION WHEN raise_exception THEN
        PERFORM set_config('explained.plan', plan, false);
    END
"""
_WAYS = ((psycopg.Cursor, "execute"), (psycopg.Cursor, "executemany"), (psycopg.ServerCursor, "execute"))
_EXECUTE = psycopg.Cursor.execute


@dataclass(frozen=True, slots=True)
class Plan:
    text: str
    nodes: list[dict[str, Any]]

    @property
    def scanned(self) -> set[str]:
        """The tables of ours that are read from one end to the other."""
        return {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"} & TABLES

    @property
    def rows(self) -> int:
        """How many rows of tables were looked at, with those that were not wanted after all."""
        scans = [node for node in self.nodes if "Scan" in node["Node Type"]]
        return sum(_rows(node) for node in scans if {"Relation Name", "Index Name"} & node.keys())

    @property
    def rows_of_parts(self) -> int:
        """How many rows of WITH queries were looked at: they have no index."""
        return sum(_rows(node) for node in self.nodes if node["Node Type"] == "CTE Scan")

    @property
    def pages(self) -> int:
        """How many pages were looked at. Of a statement that writes, a node may not count what its parts have done."""
        return sum(max(0, _pages(node) - sum(map(_pages, node.get("Plans", ())))) for node in self.nodes)

    def __str__(self) -> str:
        steps = [
            f"  {node['Node Type']} {node.get('Index Name', '')} {node.get('Relation Name', '')}: "
            f"{_rows(node)} rows, {_pages(node)} pages"
            for node in self.nodes
        ]
        return "\n".join([f"{self.rows} rows, {self.pages} pages: {self.text}", *steps])


@contextmanager
def explained() -> Iterator[list[Plan]]:
    """The plans of what is sent meanwhile, in order."""
    plans: list[Plan] = []

    def spying_on(execute: Callable[..., Any]) -> Callable[..., Any]:
        def spy(self: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
            if isinstance(query, str) and _STATEMENT.match(query) and _OURS.search(query):
                first = parameters[0] if isinstance(parameters, list) else parameters or {}
                explain = _explain_cursor if isinstance(self, psycopg.ServerCursor) else _explain
                plans.append(explain(self.connection, query, first))
            return execute(self, query, parameters, **options)

        return spy

    go = RoundTrips.go

    def spy_on_round_trip(self: RoundTrips, *statements: Sent) -> list[Rows]:
        answers = []
        for text, parameters in statements:
            if parameters:
                plans.append(_explain_numbered(self._driver, text, [value.decode() for value in parameters]))
            answers += go(self, (text, parameters))
        return answers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoundTrips, "go", spy_on_round_trip)
        for kind, name in _WAYS:
            patch.setattr(kind, name, spying_on(getattr(kind, name)))
        yield plans


def _explain(connection: Driver, text: str, parameters: Mapping[str, Any]) -> Plan:
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text).replace("%%", "%")
    return _explain_numbered(connection, numbered, [parameters[name] for name in names])


def _explain_numbered(connection: Driver, text: str, parameters: Sequence[Any]) -> Plan:
    values = ", ".join(_literal(connection, parameter) for parameter in parameters)
    values = f"({values})" if values else ""
    # The driver prepares it once more for numbers of another size: the one for the largest will do for all.
    same = f"""
        SELECT name FROM pg_prepared_statements WHERE statement = {_literal(connection, text)}
        ORDER BY cardinality(array_positions(parameter_types, CAST('bigint' AS regtype))) DESC
    """
    if kept := _do(connection, same).fetchall():
        return Plan(text, _nodes_of(connection, f'EXECUTE "{kept[0][0]}" {values}'))
    _do(connection, f"PREPARE explained AS {text}")
    plan = Plan(text, _nodes_of(connection, f"EXECUTE explained {values}"))
    _do(connection, "DEALLOCATE explained")
    return plan


def _explain_cursor(connection: Driver, text: str, parameters: Mapping[str, Any]) -> Plan:
    query = psycopg.ClientCursor(connection).mogrify(text, parameters)
    return Plan(text, _nodes_of(connection, f"DECLARE explained CURSOR FOR {query}"))


def _nodes_of(connection: Driver, statement: str) -> list[dict[str, Any]]:
    """Carries it out and undoes it, without a ROLLBACK: at that the driver lets go of all that it has prepared."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) {statement}"
    _do(connection, f"DO {_literal(connection, _UNDONE.format(_literal(connection, explain)))}")
    [[found]] = _do(connection, "SELECT current_setting('explained.plan')").fetchall()
    return list(_nodes(json.loads(found)[0]["Plan"]))


def _do(connection: Driver, statement: str) -> psycopg.Cursor[Any]:
    cursor = connection.cursor(row_factory=tuple_row)
    _EXECUTE(cursor, statement.encode(), prepare=False)
    return cursor


def _literal(connection: Driver, value: object) -> str:
    return sql.Literal(value).as_string(connection)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for part in node.get("Plans", ()):
        yield from _nodes(part)


def _rows(node: Mapping[str, Any]) -> int:
    unwanted = sum(count for name, count in node.items() if name.startswith("Rows Removed by"))
    rows: float = (node["Actual Rows"] + unwanted) * node["Actual Loops"]
    return round(rows)


def _pages(node: Mapping[str, Any]) -> int:
    return int(node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0))
