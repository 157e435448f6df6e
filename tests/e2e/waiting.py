"""Waiting for what must come, with a deadline and a message."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds. A machine under load is no reason to fail; only a failing test waits that long."""


def eventually(question: Callable[[], T], hope: str, within: float = PATIENCE) -> T:
    """The first answer that is true; fails with the hope and the last answer when none was in time."""
    deadline = time.monotonic() + within
    while not (answer := question()):
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {hope} (last answer: {answer!r})"
        time.sleep(0.02)
    return answer
