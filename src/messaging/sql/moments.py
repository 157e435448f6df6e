"""Days and moments as they are stored, also such as Python has no room for: infinity, a year before 1 or after 9999.

One such row would fail all that are read with it. So it is read as the first or the last that can be reckoned with.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg import adapters
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

FIRST, LAST = date(1, 1, 2), date(9999, 12, 30)
"""A day from where Python ends, so that it may be another one elsewhere."""


def day_from(text: str) -> date:
    """From JSON."""
    try:
        return min(max(date.fromisoformat(text), FIRST), LAST)
    except ValueError:
        return _end(text)


def moment_from(text: str) -> datetime:
    """From JSON; in UTC."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return _moment(_end(text))


def read_all(driver: psycopg.Connection[Any], _: object = None) -> None:
    """Have a connection read them so."""
    driver.adapters.register_loader("date", _loader("date", _end))
    driver.adapters.register_loader("timestamptz", _loader("timestamptz", lambda text: _moment(_end(text))))


def _loader(kind: str, end: Callable[[str], Any]) -> type[Loader]:
    """The driver's own, but for what that can't read."""
    found = adapters.get_loader(adapters.types[kind].oid, Format.TEXT)
    assert found, f"the driver reads no {kind}"
    drivers_own = found

    class AnyLoader(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._load = drivers_own(oid, context).load

        def load(self, data: Buffer) -> Any:
            try:
                return self._load(data)
            except psycopg.DataError:
                return end(bytes(data).decode())

    return AnyLoader


def _end(text: str) -> date:
    return FIRST if text.startswith("-") or text.endswith("BC") else LAST


def _moment(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
