"""API keys: who may ask for what. Kept as hashes, so that whoever reads the database can't use them.

A key is `alk_ID_SECRET`: by its id it is found, and named where people talk about it; its secret has 256 bits from the
operating system. No guess comes near that, so the hash need not be a slow one, which a busy service could not bear.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from sqlalchemy import Engine, Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from allocation.database.tables import api_keys
from messaging.retry import Retry
from messaging.sql.connections import connection

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What a key may be called. It becomes part of log lines, headers and the event log."""

_KEY = re.compile(r"alk_([0-9a-f]{12})_[0-9a-f]{64}")


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
        return hmac.compare_digest(self.hash, _hash(key))

    @property
    def principal(self) -> Principal:
        return Principal(self.name, frozenset(self.scopes), self.rate)


class NameTaken(Exception):
    """A key has this name, or had it: names are not given twice, since the event log keeps them."""


class SqlKeys:
    """All of it raises Unavailable."""

    def __init__(self, engine: Engine, retry: Retry) -> None:
        self._engine = engine
        self._retry = retry

    def create(self, name: str, scopes: Iterable[Scope], *, rate: int | None, by: str) -> tuple[str, StoredKey]:
        """A new key, which nobody can see again, and what is kept of it. Raises NameTaken."""
        key_id = secrets.token_hex(6)
        key = f"alk_{key_id}_{secrets.token_hex(32)}"
        row = {
            "name": name,
            "id": key_id,
            "hash": _hash(key),
            "scopes": sorted(set(scopes), key=list(Scope).index),
            "rate": rate,
            "created_by": by,
        }
        statement = insert(api_keys).values(row).on_conflict_do_nothing(index_elements=["name"]).returning(api_keys)
        with connection(self._engine) as open_connection:
            made = open_connection.execute(statement).one_or_none()
        if made is None:
            raise NameTaken(name)
        return key, _stored(made)

    def all(self) -> Sequence[StoredKey]:
        """Those that are revoked too, the oldest first."""

        def ask() -> list[StoredKey]:
            query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.name)
            with connection(self._engine) as open_connection:
                return [_stored(row) for row in open_connection.execute(query)]

        return self._retry(ask)

    def any_holds(self) -> bool:
        """Whether there is a key that was not revoked. Where there is no table yet there is none."""

        def ask() -> bool:
            with connection(self._engine) as open_connection:
                return bool(open_connection.scalar(text("SELECT to_regclass('api_keys') IS NOT NULL")))

        return self._retry(ask) and any(key.revoked_at is None for key in self.all())

    def revoke(self, name: str, by: str) -> StoredKey | None:
        """The key as it is now, None if there never was one. Whoever revoked it first stays on record."""
        revoke = update(api_keys).where(api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
        with connection(self._engine) as open_connection:
            open_connection.execute(revoke.values(revoked_at=func.now(), revoked_by=by))
            row = open_connection.execute(select(api_keys).where(api_keys.c.name == name)).one_or_none()
        return _stored(row) if row else None


def id_of(key: str) -> str | None:
    """The part by which a key is found; None if this can't be a key."""
    match = _KEY.fullmatch(key)
    return match and match[1]


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _stored(row: Row[Any]) -> StoredKey:
    values = dict(row._mapping)
    return StoredKey(**values | {"scopes": tuple(map(Scope, values["scopes"]))})
