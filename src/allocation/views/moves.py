"""Which lines lost a place by a command, and where they went, from the log. So a command that is sent again weeks later
can be answered as it was the first time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

from sqlalchemy import Connection, Row, text
from typing_extensions import TypedDict  # typing's own is not read by pydantic before Python 3.12

from allocation.adapters.wire_names import CODEC
from allocation.domain.events import Allocated, Backordered, Deallocated, OutOfStock

A = TypeVar("A")

Moved = TypedDict(
    "Moved",
    {
        "orderid": str,
        "lineid": str,
        "sku": str,
        "qty": int,
        "from": str,
        "to": str | None,
        "outcome": Literal["moved", "waiting", "out_of_stock"],
    },
)

_CHUNK = 1_000

Asked: TypeAlias = Callable[[Callable[[Connection], A]], A]
"""Asks a question on a connection that is held for that only."""


def moved(ask: Asked[Any], places: Mapping[str, int] | None) -> list[Moved]:
    """`places`: the first version, by SKU, at which it is recorded what the command led to; None for the answer of a
    release that did not say."""
    return [move for sku, version in sorted((places or {}).items()) for move in _moved(ask, sku, version)]


def _moved(ask: Asked[Any], sku: str, version: int) -> Iterator[Moved]:
    """What followed is found by causation, since commands share a transaction and may share a correlation id. An event
    about where a line went is caused by the one by which it lost its place."""
    lost: dict[str, Deallocated] = {}
    for row in _consequences(ask, sku, version):
        event = CODEC.decode(row.type, row.data)
        if isinstance(event, Deallocated):
            lost[row.id] = event
        elif isinstance(event, Allocated | Backordered | OutOfStock) and (before := lost.get(row.causation_id)):
            if (event.orderid, event.lineid) != (before.orderid, before.lineid):  # one that waited has its turn
                continue
            to = event.batchref if isinstance(event, Allocated) else None
            if to == before.batchref:  # there was room for it, when larger ones had gone
                continue
            yield {
                "orderid": event.orderid,
                "lineid": event.lineid,
                "sku": sku,
                "qty": event.qty,
                "from": before.batchref,
                "to": to,
                "outcome": "moved" if to else "waiting" if isinstance(event, Backordered) else "out_of_stock",
            }


def _consequences(ask: Asked[Any], sku: str, version: int) -> Iterator[Row[Any]]:
    """All that the command led to that is recorded at this version, in order: it stands together in the log. What it
    did before, as to make room, is found too. Ten thousand lines are read in parts, for none of which a caller's time
    runs out."""
    about = {"sku": sku, "version": version}
    version = ask(lambda connection: connection.execute(_LAST_OF_OTHERS, about).scalar_one()) + 1
    causes: set[str] = set()
    while True:
        rows = ask(partial(_chunk, about={"sku": sku, "version": version, "most": _CHUNK}))
        for row in rows:
            causes = causes or {row.causation_id}
            if row.causation_id not in causes:
                return
            causes.add(row.id)
            yield row
        if len(rows) < _CHUNK:
            return
        version += _CHUNK


def _chunk(connection: Connection, about: Mapping[str, Any]) -> Sequence[Row[Any]]:
    return connection.execute(_EVENTS, about).all()


_LAST_OF_OTHERS = text("""
    SELECT coalesce(max(version), 0) FROM (
        SELECT version FROM event_log WHERE stream = :sku AND version < :version AND causation_id IS DISTINCT FROM (
            SELECT causation_id FROM event_log WHERE stream = :sku AND version = :version
        ) ORDER BY version DESC LIMIT 1
    ) AS before
""")
_EVENTS = text("""
    SELECT CAST(id AS text) AS id, causation_id, type, data FROM event_log
    WHERE stream = :sku AND version >= :version ORDER BY version LIMIT :most
""")
