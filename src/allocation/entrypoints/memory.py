"""Spares a long-lived process from looking through all that it has loaded, again and again, for garbage."""

from __future__ import annotations

import gc


def settle_memory() -> None:
    """Called when a process has loaded what it needs. That is some hundred thousand objects, and none of them will go:
    to visit them takes tens of milliseconds, in which no thread answers anybody."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
