"""A cache of the valid API keys, so that a request does not have to ask the database whose key it has."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

from allocation.access.keys import Principal, StoredKey, id_of
from messaging.errors import Unavailable

REVOCATION_DELAY = 2.0
"""Seconds for which a process that knew a key may accept it after it was revoked."""

_REFRESH_EVERY = 1.0
_REFRESH_FOR_NEW_KEYS = 0.25
_VALID_WITHOUT_DATABASE = 60.0


@dataclass(frozen=True, slots=True)
class _Snapshot:
    by_id: Mapping[str, StoredKey]
    by_name: Mapping[str, StoredKey]
    since: float


@dataclass(slots=True)
class ApiKeyCache:
    """All keys are read together, so an unknown one costs the database no more than a known one.

    While the database is unavailable, known keys are valid for a minute more; an unknown one can't be judged then.
    Threads may share the cache.
    """

    read_all: Callable[[], Sequence[StoredKey]]
    clock: Callable[[], float] = time.monotonic
    _known: _Snapshot | None = field(default=None, init=False)
    _reading: Lock = field(default_factory=Lock, init=False)

    def principal_of(self, key: str) -> Principal | None:
        """Who shows this key, and what it may do; None if it is no key, or was revoked. Raises Unavailable."""
        key_id = id_of(key)
        if key_id is None:
            return None
        found = self._current(_REFRESH_EVERY).by_id.get(key_id)
        if found is None:
            found = self._current(_REFRESH_FOR_NEW_KEYS, valid_for=_REFRESH_FOR_NEW_KEYS).by_id.get(key_id)
        return found.principal if found and found.fits(key) else None

    def principal_named(self, name: str) -> Principal | None:
        """The same by name, for a session of somebody who has shown the key before: it ends with the key.

        Raises Unavailable.
        """
        found = self._current(_REFRESH_EVERY).by_name.get(name)
        return found.principal if found else None

    def _current(self, not_older_than: float, valid_for: float = _VALID_WITHOUT_DATABASE) -> _Snapshot:
        """Raises Unavailable when they can't be read, and what is known is not `valid_for` so long."""
        known = self._known
        age = self.clock() - known.since if known else math.inf
        if known and age <= not_older_than:
            return known
        if not self._reading.acquire(blocking=age > min(REVOCATION_DELAY, valid_for)):
            assert known, "whoever knows nothing waits"
            return known  # somebody is reading them at this moment
        try:
            if self._known is known:  # nobody has read them while we waited
                self._known = self._read()
        except Unavailable:
            if age > valid_for:
                raise
        finally:
            self._reading.release()
        assert self._known, "it was read, or was there"
        return self._known

    def _read(self) -> _Snapshot:
        begun = self.clock()
        valid = [key for key in self.read_all() if key.revoked_at is None]
        return _Snapshot({key.id: key for key in valid}, {key.name: key for key in valid}, begun)
