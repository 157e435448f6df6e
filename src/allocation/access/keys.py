"""API keys: who may ask for what. Kept as hashes, so that whoever reads the database can't use them.

A key is `alk_ID_SECRET`: by its id it is found, and named where people talk about it; its secret has 256 bits from the
operating system. No guess comes near that, so the hash need not be a slow one, which a busy service could not bear.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What a key may be called. It becomes part of log lines, headers and the event log."""

_KEY = re.compile(r"alk_([0-9a-f]{12})_[0-9a-f]{64}")


def new_key() -> tuple[str, str]:
    """An id, and a key with it."""
    key_id = secrets.token_hex(6)
    return key_id, f"{beginning(key_id)}_{secrets.token_hex(32)}"


def beginning(key_id: str) -> str:
    """Of a key: no secret, so it may be shown."""
    return f"alk_{key_id}"


class Scope(StrEnum):
    """What a key is for. None contains another, but `admin` contains all."""

    READ = "read"
    ALLOCATE = "allocate"
    OPERATE = "operate"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever has shown a key. `rate` is how many requests a second it may send, None as the settings say."""

    name: str
    scopes: frozenset[Scope]
    rate: int | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def __str__(self) -> str:
        """As it is kept in the metadata of events."""
        return f"api_key:{self.name}"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """All that is kept of a key; not the key."""

    name: str
    id: str
    hash: bytes
    scopes: tuple[Scope, ...]
    rate: int | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
    revoked_by: str | None = None

    def fits(self, key: str) -> bool:
        """In a time that does not tell how much of it fits."""
        return hmac.compare_digest(self.hash, hash_of(key))

    @property
    def principal(self) -> Principal:
        return Principal(self.name, frozenset(self.scopes), self.rate)


def id_of(key: str) -> str | None:
    """The part by which a key is found; None if this can't be a key."""
    match = _KEY.fullmatch(key)
    return match and match[1]


def hash_of(key: str) -> bytes:
    return sha256(key.encode()).digest()
