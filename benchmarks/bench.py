"""What every row of the table is given: the world, how much to do, and where points for the plots go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from benchmarks.results import Results, Row
from benchmarks.world import World

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    world: World
    results: Results
    quick: bool = False
    whole_year: bool = False

    def of(self, full: T, quick: T) -> T:
        return quick if self.quick else full


Measure: TypeAlias = Callable[[Bench], Iterator[Row]]


def in_turn(rounds: int, *contestants: Callable[[], T]) -> list[list[T]]:
    """What each contestant gave, round by round: A B A B, so that what slows the machine slows them all."""
    given: list[list[T]] = [[] for _ in contestants]
    for _ in range(rounds):
        for mine, contestant in zip(given, contestants, strict=True):
            mine.append(contestant())
    return given
