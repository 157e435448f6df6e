"""A year of a shop's order lines, and the batches they are served from: real ones if they are there, else made up."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random

OPTIONS = ("--map", "orderid=order_id", "--map", "lineid=seq", "--where", "kind=sale,free")
"""With which the lines are imported: cancellations and the like are no orders."""
OF_BATCHES = ("--map", "ref=batch_ref")
ALL_LINES = 527_795

_SKUS = 4_000
_SHORT = 0.9  # there is a tenth less stock than was ordered, so that some lines are out of stock


@dataclass(frozen=True, slots=True)
class Year:
    lines: Path
    batches: Path
    said: str


def year(folder: Path, lines: int) -> Year:
    """The files in the folder that RETAIL_DATA names, or as many lines made up in `folder`."""
    given = Path(os.environ.get("RETAIL_DATA", "../shared/data"))
    real = Year(given / "online_retail_lines.csv.gz", given / "online_retail_batches_made_up.csv.gz", "a real year")
    return real if real.lines.exists() and real.batches.exists() else made_up(folder, lines)


def made_up(folder: Path, lines: int, seed: int = 1) -> Year:
    """The same every time. Few SKUs sell much and many sell little, as in the real year (Zipf's law)."""
    random = Random(seed)
    skus = [f"{number:05}{random.choice(['', 'A', 'B'])}" for number in range(_SKUS)]
    weights = [1 / (rank + 40) for rank in range(_SKUS)]
    chosen = random.choices(skus, weights, k=lines)
    ordered = [(sku, min(80_000, 1 + int(random.paretovariate(1.1)))) for sku in chosen]
    made = Year(folder / "lines.csv.gz", folder / "batches.csv.gz", "a made-up year")
    _write(made.lines, "seq,order_id,sku,qty,kind", _rows_of_lines(ordered, random))
    _write(made.batches, "batch_ref,sku,qty,eta", _rows_of_batches(ordered, random))
    return made


def _rows_of_lines(ordered: list[tuple[str, int]], random: Random) -> Iterable[tuple[object, ...]]:
    order = 500_000
    for seq, (sku, qty) in enumerate(ordered, start=1):
        order += random.random() < 1 / 21
        yield seq, order, sku, qty, "cancel" if random.random() < 0.015 else "sale"


def _rows_of_batches(ordered: list[tuple[str, int]], random: Random) -> Iterable[tuple[object, ...]]:
    wanted: dict[str, int] = {}
    for sku, qty in ordered:
        wanted[sku] = wanted.get(sku, 0) + qty
    for sku, qty in wanted.items():
        arrivals = random.randint(1, 12)
        for number in range(arrivals):
            eta = date(2030, 1, 1) + timedelta(days=random.randrange(365)) if number else ""
            yield f"B{number}-{sku}", sku, int(qty * _SHORT / arrivals), eta


def _write(file: Path, header: str, rows: Iterable[tuple[object, ...]]) -> None:
    with gzip.open(file, "wt", compresslevel=1, encoding="utf-8", newline="") as text:
        text.write(f"{header}\n")
        csv.writer(text).writerows(rows)
