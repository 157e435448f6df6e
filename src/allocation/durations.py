"""Lengths of time as people write them, in settings and on the command line."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}


def duration(text: str) -> timedelta:
    """30s, 10m, 2h or 7d. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise ValueError(f"{text!r} is not a duration such as 30s, 10m, 2h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def in_short(length: timedelta) -> str:
    """As `duration` reads it, in the largest unit that says it in whole numbers; nothing is said below a second."""
    unit, name = next((unit, name) for name, unit in _UNITS.items() if name == "s" or not length % unit)
    return f"{length // unit}{name}"
