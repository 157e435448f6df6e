"""Read models written in the transaction that made them true."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import and_, delete

from allocation.database.tables import allocations_view
from allocation.domain.events import Allocated, Deallocated
from allocation.domain.lines import LineKey
from messaging.sql.statements import Statement, insert_rows, rows_of, write_rows

_INSERT = insert_rows(allocations_view, "orderid", "lineid", "sku", "qty", "batchref")
_lines_given = rows_of(allocations_view.c.orderid, allocations_view.c.lineid)
_DELETE = write_rows(
    delete(allocations_view).where(
        and_(allocations_view.c.orderid == _lines_given.c.orderid, allocations_view.c.lineid == _lines_given.c.lineid)
    )
)


class SqlAlchemyAllocationsView:
    def __init__(self) -> None:
        self._added: dict[LineKey, Allocated] = {}
        self._removed: set[LineKey] = set()

    def add(self, event: Allocated) -> None:
        self._added[event.orderid, event.lineid] = event

    def remove(self, event: Deallocated) -> None:
        key = event.orderid, event.lineid
        if not self._added.pop(key, None):
            self._removed.add(key)

    def statements(self) -> Iterator[Statement]:
        if self._removed:
            yield _DELETE, [{"orderid": orderid, "lineid": lineid} for orderid, lineid in self._removed]
        if self._added:
            columns = ("orderid", "lineid", "sku", "qty", "batchref")
            yield _INSERT, [{name: getattr(row, name) for name in columns} for row in self._added.values()]
