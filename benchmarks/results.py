"""What was measured, beside what it should be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Goal:
    number: float
    at_least: bool

    def is_met_by(self, measured: float) -> bool:
        return measured >= self.number if self.at_least else measured <= self.number

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.number:,g}"


def at_least(wanted: float) -> Goal:
    return Goal(wanted, at_least=True)


def at_most(wanted: float) -> Goal:
    return Goal(wanted, at_least=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `behind` are the numbers that the measured one was made of."""

    key: str
    what: str
    measured: float
    unit: str = ""
    goal: Goal | None = None
    behind: str = ""

    @property
    def met(self) -> bool:
        return self.goal is None or self.goal.is_met_by(self.measured)

    @property
    def value(self) -> str:
        return f"{number(self.measured)} {self.unit}".strip()

    @property
    def wanted(self) -> str:
        return f"{self.goal} {self.unit}".strip() if self.goal else ""

    @property
    def verdict(self) -> str:
        return "" if self.goal is None else "met" if self.met else "MISSED"


@dataclass(slots=True)
class Results:
    """`series` are the points of the plots: by name, pairs of x and y."""

    about: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if not row.met]

    def save(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def load(cls, file: Path) -> Results:
        kept = json.loads(file.read_text("utf-8"))
        rows = [Row(**row | {"goal": row["goal"] and Goal(**row["goal"])}) for row in kept["rows"]]
        series = {name: [(x, y) for x, y in points] for name, points in kept["series"].items()}
        return cls(kept["about"], rows, series)


def number(value: float) -> str:
    """As many digits as a person wants."""
    if isnan(value):
        return "none"
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of rounds that followed each other, so that what drifts does not count."""
    return median(our / their for our, their in zip(ours, theirs, strict=True))
