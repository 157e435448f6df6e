"""Waiting, always with a deadline: a server that never comes must become an error, not a hang."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_for(condition: Callable[[], Value], *, within: float, every: float = 0.01) -> Value:
    """The first true value of `condition`, or its last false one once `within` seconds have passed."""
    deadline = time.monotonic() + within
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    return value
