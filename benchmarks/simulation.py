"""The rules once more, in a few lines and in memory: what an import must count. It knows nothing of the service."""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeAlias

Batch: TypeAlias = tuple[str, int, str]
"""SKU, quantity, and the day it is expected as YYYY-MM-DD; nothing when it is in the warehouse."""
Line: TypeAlias = tuple[str, int]


def expected_counts(batches: Iterable[Batch], lines: Iterable[Line]) -> Counter[str]:
    """Whole lines from the first batch with room: the warehouse first, then by day, then as they were added."""
    room: defaultdict[str, list[int]] = defaultdict(list)
    for sku, qty, _ in sorted(batches, key=lambda batch: batch[2]):  # stable, and nothing sorts before any day
        room[sku].append(qty)
    counts = Counter[str]()
    for sku, qty in lines:
        of_sku = room.get(sku, [])
        for number, left in enumerate(of_sku):
            if left >= qty:
                of_sku[number] -= qty
                counts["allocated"] += 1
                break
        else:
            counts["out of stock"] += 1
    return counts


def batches_in(file: Path, most: int | None = None) -> Iterator[Batch]:
    return ((row["sku"], int(row["qty"]), row["eta"]) for row in islice(_rows(file), most))


def lines_in(file: Path, most: int | None = None) -> Iterator[Line]:
    wanted = (row for row in _rows(file) if row["kind"] in ("sale", "free"))
    return ((row["sku"], int(row["qty"])) for row in islice(wanted, most))


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)
