"""The stored queue of a SKU, read again and again in one transaction, each time a batch has got more room.

What was served meanwhile is still stored. So it is kept how far each size has been served, and below which room nobody
is left: what came before is not read again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias

from allocation.adapters import product_queries as queries
from allocation.domain.batches import Batch
from allocation.domain.lines import LineKey
from messaging.sql.statements import Ask, Query, Row

Turn: TypeAlias = tuple[int, int]
_FIRST: Turn = (-100, 0)


@dataclass
class QueueReader:
    """For batches of one SKU whose goods are there on one day, at one location."""

    ask: Ask
    about: Row
    _served: dict[int, Turn] = field(default_factory=dict)
    _read: defaultdict[int, list[tuple[Turn, LineKey]]] = field(default_factory=lambda: defaultdict(list))
    _least: float = 0
    """Nobody is left who needs less."""

    @classmethod
    def of(cls, ask: Ask, batch: Batch, day: date | None) -> QueueReader:
        return cls(ask, {"sku": batch.sku, "day": day, "place": queries.location_bit(batch.location)})

    def pages(self, room: Callable[[], int], served: Container[LineKey]) -> Iterator[list[LineKey]]:
        """Who may be served, in turn, as far as they fit the room that there is by then; of those who are `served` only
        few."""
        self._note(served)
        place, most = _FIRST, 10  # mostly few are served, but there may be thousands
        while (there := room()) >= max(1, self._least):
            rows = self._rows(there, place, most)
            if not rows and place == _FIRST:
                self._least = self._larger(there)
            if not rows:
                return
            for turn, since, needs, orderid, lineid in rows:
                place = turn, since
                self._read[needs].append((place, (orderid, lineid)))
            yield [(orderid, lineid) for *_, orderid, lineid in rows]
            most = min(2 * most, 1_000)

    def _rows(self, room: int, place: Turn, most: int) -> list[tuple[int, int, int, str, str]]:
        behind = {str(needs): turn for needs, turn in self._served.items() if turn > place}
        about = {"room": room, "turn": place[0], "since": place[1], "served": behind, "most": most}
        found: list[tuple[int, int, int, str, str]] = self.ask(Query(queries.NEXT_BACKORDERS, [self.about | about]))[
            queries.NEXT_BACKORDERS
        ]
        return found

    def _larger(self, room: int) -> float:
        about = {"sku": self.about["sku"], "room": room}
        ((needs,),) = self.ask(Query(queries.LARGER_NEEDS, [about]))[queries.LARGER_NEEDS]
        return float("inf") if needs is None else needs

    def _note(self, served: Container[LineKey]) -> None:
        """Of each size what was read stands together: so much of it as was served is not read again."""
        for needs, read in self._read.items():
            for turn, key in read:
                if key not in served:
                    break
                self._served[needs] = turn
        self._read.clear()
