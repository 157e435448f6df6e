"""What the tables hold fits into their indexes, however long the names are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
)

from allocation.database import tables
from allocation.service_layer.messages.stock import DOCUMENT
from messaging.envelope import LONGEST_TEXT
from messaging.sql import tables as messaging_tables

MOST = 2_704
"""Bytes that PostgreSQL allows an entry of an index to have, a third of a page, with its header."""

HEADER = 8 + 8
"""The second half says which values are null."""

UTF8 = 4
"""Bytes that a character may have."""

A_WORD = 32
"""The longest of our own words: an effect, a channel, a kind of document."""

LENGTHS = {
    "api_keys.name": 63,
    "console_sessions.token": 32,
    "dead_letters.source": A_WORD,
    "deliveries.effect": A_WORD,
    "documents.kind": A_WORD,
    "documents.number": UTF8 * DOCUMENT.longest,
    "dropped_effects.effect": A_WORD,
    "outbox.effect": A_WORD,
    "stream_positions.stream": A_WORD,
}
"""In bytes, of columns that can't hold the longest name."""

FIXED: dict[type, int] = {Boolean: 1, SmallInteger: 2, Integer: 4, Date: 4, BigInteger: 8, DateTime: 8}


def indexes(table: Table) -> Iterator[tuple[str, list[ColumnElement[Any]]]]:
    """What each of them has in an entry."""
    if len(table.primary_key):
        yield f"{table.name}_pkey", list(table.primary_key)
    for index in table.indexes:
        also = index.dialect_options["postgresql"]["include"] or ()
        yield str(index.name), [*map(unordered, index.expressions), *(table.c[name] for name in also)]


def unordered(value: Any) -> ColumnElement[Any]:
    """The value itself, wherever its nulls are."""
    found: ColumnElement[Any] = value.element if getattr(value, "modifier", None) else value
    return found


def largest_entry(values: list[ColumnElement[Any]]) -> int:
    """In bytes, none of them compressed."""
    return HEADER + sum((size(value) + 7) // 8 * 8 for value in values)


def size(value: ColumnElement[Any]) -> int:
    if fixed := FIXED.get(type(value.type)):
        return fixed
    known = LENGTHS.get(str(value)) if isinstance(value, Column) else None
    assert known or isinstance(value.type, String), f"how long can {value} be?"
    return 4 + (known or UTF8 * LONGEST_TEXT)


EVERY = {
    name: values
    for metadata in (messaging_tables.metadata, tables.metadata)
    for table in metadata.tables.values()
    for name, values in indexes(table)
}


@pytest.mark.parametrize("name", EVERY)
def test_the_longest_names_fit_into_every_index(name: str) -> None:
    assert largest_entry(EVERY[name]) <= MOST


def test_of_the_longest_names_two_fit_into_an_index_and_three_do_not() -> None:
    of_one = Table("some", MetaData(), *(Column(name, tables.Key) for name in "abc"))
    Index("of_two", of_one.c.a, of_one.c.b)
    Index("of_three", of_one.c.a, of_one.c.b, of_one.c.c)

    found = {name: largest_entry(values) for name, values in indexes(of_one)}

    assert found["of_two"] < MOST < found["of_three"]
