"""Spares a process from looking through all that it has loaded, again and again, for garbage."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Called before much is loaded."""
    gc.set_threshold(10_000, 10, 10)


def settle_memory() -> None:
    """Called when a long-lived process has loaded what it needs. That is some hundred thousand objects, and none of
    them will go: to visit them takes tens of milliseconds, in which no thread answers anybody."""
    gc.collect()
    gc.freeze()
    collect_seldom()
