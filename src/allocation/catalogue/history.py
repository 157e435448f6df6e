"""Every version that was ever published: a file each, never deleted."""

from __future__ import annotations

import json
from importlib.resources import files

from messaging.codec import JsonObject


def published() -> dict[str, JsonObject]:
    """Each version ever published, by name."""
    found = (files("allocation.catalogue") / "published").iterdir()
    named = {file.name.removesuffix(".json"): file for file in found if file.name.endswith(".json")}
    return {name: json.loads(named[name].read_text("utf-8")) for name in sorted(named)}


def written(schema: JsonObject) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
