"""What makes the unit tests quick: garbage is collected seldom."""

from __future__ import annotations

import gc


def pytest_configure() -> None:
    """Garbage is collected seldom: to look through all that was imported, again and again, is a fifth of the work."""
    gc.set_threshold(50_000)


def pytest_collection_finish() -> None:
    """And no more among what was imported."""
    gc.freeze()
