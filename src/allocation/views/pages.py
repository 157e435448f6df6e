"""Lists in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

Item = TypeVar("Item")
End = TypeVar("End")

Page: TypeAlias = tuple[list[Item], End | None]
"""Some items, and where the page ends if there may be more behind it."""


def cut(found: Sequence[Item], most: int, end_at: Callable[[Item], End]) -> Page[Item, End]:
    """The first `most` of what was found, which is one more if there is one."""
    items = list(found[:most])
    return items, end_at(items[-1]) if len(found) > most else None
