"""The keys in the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from allocation.access.keys import Scope, StoredKey, hash_of, new_key
from allocation.database.tables import api_keys
from messaging.sql.connections import Database, connection


class NameTaken(Exception):
    """A key has this name, or had it: names are not given twice, since the event log keeps them."""


class SqlKeys:
    """All of it raises Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, scopes: Iterable[Scope], *, rate: int | None, by: str) -> tuple[str, StoredKey]:
        """A new key, which nobody can see again, and what is kept of it. Raises NameTaken."""
        key_id, key = new_key()
        row = {
            "name": name,
            "id": key_id,
            "hash": hash_of(key),
            "scopes": sorted(set(scopes), key=list(Scope).index),
            "rate": rate,
            "created_by": by,
        }
        statement = insert(api_keys).values(row).on_conflict_do_nothing(index_elements=["name"]).returning(api_keys)
        with connection(self._database.engine) as open_connection:
            made = open_connection.execute(statement).one_or_none()
        if made is None:
            raise NameTaken(name)
        return key, _stored(made)

    def all(self) -> Sequence[StoredKey]:
        """Those that are revoked too, the oldest first."""
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.name)
        return [_stored(row) for row in self._database.run(lambda keys: keys.execute(query).all())]

    def any_holds(self) -> bool:
        """Whether there is a key that was not revoked. Where there is no table yet there is none."""
        is_there = text("SELECT to_regclass('api_keys') IS NOT NULL")
        return bool(self._database.run(lambda keys: keys.scalar(is_there))) and any(
            key.revoked_at is None for key in self.all()
        )

    def revoke(self, name: str, by: str) -> StoredKey | None:
        """The key as it is now, None if there never was one. Whoever revoked it first stays on record."""
        revoke = update(api_keys).where(api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
        with connection(self._database.engine) as open_connection:
            open_connection.execute(revoke.values(revoked_at=func.now(), revoked_by=by))
            row = open_connection.execute(select(api_keys).where(api_keys.c.name == name)).one_or_none()
        return _stored(row) if row else None


def _stored(row: Row[Any]) -> StoredKey:
    """Without scopes that only a newer release knows: here they allow nothing."""
    values = dict(row._mapping)
    known = tuple(scope for scope in Scope if scope in values["scopes"])
    return StoredKey(**values | {"scopes": known})
