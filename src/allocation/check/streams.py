"""Any number of rows, in the order of a key: several such streams are walked side by side, and none is ever held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable, Row

_AT_A_TIME = 1000

V = TypeVar("V")
W = TypeVar("W")


def stream(connection: Connection, statement: Executable) -> Iterator[Row[Any]]:
    """The rows, through a cursor on the server; any number of these may be open on one connection."""
    return iter(connection.execute(statement, execution_options={"yield_per": _AT_A_TIME}))


def side_by_side(*streams: Iterable[Any]) -> Iterator[tuple[Any, tuple[Iterable[Any], ...]]]:
    """Each key with the rows that have it, stream by stream.

    A row's key is its first element, and rows come in its order. Those of one key are gone when the next is asked for.
    """
    groups = [groupby(rows, key=itemgetter(0)) for rows in streams]
    heads = [next(group, None) for group in groups]
    while any(heads):
        key = min(head[0] for head in heads if head)
        yield key, tuple(head[1] if head and head[0] == key else () for head in heads)
        heads = [
            next(group, None) if head and head[0] == key else head for group, head in zip(groups, heads, strict=True)
        ]


def pairs(left: Iterable[tuple[Any, V]], right: Iterable[tuple[Any, W]]) -> Iterator[tuple[Any, V | None, W | None]]:
    """Each key with what stands under it on both sides, None where nothing does. Keys are in order; of one that comes
    twice the first counts."""
    for key, (on_the_left, on_the_right) in side_by_side(left, right):
        yield key, _value(on_the_left), _value(on_the_right)


def _value(rows: Iterable[tuple[Any, V]]) -> V | None:
    return next((value for _, value in rows), None)
