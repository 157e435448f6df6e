"""JSON from outside, read as strictly as it can be."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json


def read_json(body: bytes | str) -> Any:
    """What it says. Raises ValueError for what is not JSON, and for an object in which a key stands twice: which of the
    two was meant, nobody knows."""
    value = from_json(body, allow_inf_nan=False)  # RFC 8259 knows no NaN, not even under a key that we ignore
    text = body if isinstance(body, str) else body.decode()
    json.loads(text, object_pairs_hook=_once_each, parse_int=str, parse_float=str)
    return value


def _once_each(pairs: list[tuple[str, object]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            shown = key if len(key) <= 60 else f"{key[:60]}…"
            raise ValueError(f"the key {shown!r} is given twice in one object")
        seen.add(key)
