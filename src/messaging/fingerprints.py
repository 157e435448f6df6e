"""What distinguishes two messages that were sent under one id."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any


def fingerprint(name: str, message: object) -> str:
    """What has its default counts as not given: a field that a later release adds, with a default, leaves the
    fingerprints of old messages as they are. Neither do names of classes matter."""
    return sha256(f"{name}{_given(message)}".encode()).hexdigest()


def _given(value: Any) -> Any:
    if is_dataclass(value):
        given = [(one.name, getattr(value, one.name), one.default) for one in fields(value)]
        return sorted((name, _given(field)) for name, field, default in given if field != default)
    if isinstance(value, tuple) and any(map(is_dataclass, value)):
        return [_given(one) for one in value]
    return value
