"""Writes what is generated from the code: docs/events.md and the published schemas. Refuses what would break others."""

from __future__ import annotations

import sys
from pathlib import Path

from allocation.catalogue import history, messages, page

ROOT = Path(__file__).parents[1]


def expected() -> dict[Path, str]:
    """What the files should hold, by their paths."""
    published = history.published()
    folder = ROOT / "src/allocation/catalogue/published"
    schemas = {
        folder / f"{message.name}.json": history.written(history.document(message, published.get(message.name)))
        for message in messages()
    }
    return {ROOT / "docs/events.md": page.page(), **schemas}


if __name__ == "__main__":
    if broken := list(history.broken_promises(history.published(), messages())):
        sys.exit("\n".join(broken))
    for path, text in expected().items():
        path.write_text(text, "utf-8")
