"""Read models written in the transaction that made them true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from allocation.database.tables import allocations_view
from allocation.domain.lines import LineKey, PlacedLine
from messaging.sql.statements import Row, Statement, delete_rows, insert_rows, update_rows

_KEY = ("orderid", "lineid", "batchref")


_INSERT = insert_rows(allocations_view, "orderid", "lineid", "sku", "qty", "batchref")
_UPDATE = update_rows(allocations_view, _KEY, ["qty"])
_DELETE = delete_rows(allocations_view, _KEY)


class SqlAlchemyAllocationsView:
    """A row for each batch that a line has something of. `stored` says what is there of a line."""

    def __init__(self, stored: Callable[[LineKey], Mapping[str, int]]) -> None:
        self._stored = stored
        self._shown: dict[LineKey, PlacedLine | None] = {}
        self._left: dict[LineKey, set[str]] = defaultdict(set)
        """Batches of which a line had nothing in between: what it has of them now is the last in order."""

    def show(self, key: LineKey, line: PlacedLine | None) -> None:
        self._shown.pop(key, None)  # a line that is placed again is the last
        self._shown[key] = line
        if stored := self._stored(key):
            self._left[key] |= stored.keys() - (line.batch_quantities if line else {})

    def statements(self) -> Iterator[Statement]:
        gone: list[Row] = []
        changed: list[Row] = []
        new: list[Row] = []
        for key, line in self._shown.items():
            stored, now = self._stored(key), line.batch_quantities if line else {}
            row: Row = {"orderid": key[0], "lineid": key[1]}
            gone += [row | {"batchref": ref} for ref in stored if ref in self._left[key]]
            for ref, qty in now.items():
                if ref not in stored or ref in self._left[key]:
                    new.append(row | {"batchref": ref, "sku": line and line.sku, "qty": qty})
                elif qty != stored[ref]:
                    changed.append(row | {"batchref": ref, "qty": qty})
        yield _DELETE, gone
        yield _UPDATE, changed
        yield _INSERT, new
