"""Who may come in: which scope each route needs, and what is answered to those who do not have it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from flask import Flask, g, request
from werkzeug.exceptions import Forbidden, HTTPException, TooManyRequests, Unauthorized

from allocation.adapters.key_ring import KeyRing
from allocation.adapters.keys import Principal, Scope, id_of
from allocation.config import Settings
from allocation.entrypoints.http.rates import Rates

log = logging.getLogger(__name__)

READING = frozenset({"GET", "HEAD", "OPTIONS"})
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Door:
    """Whoever asks for a route of this path, or below it unless it is `alone`, needs the scope; None: it is open to
    everybody."""

    methods: frozenset[str]
    path: str
    scope: Scope | None
    alone: bool = False

    def leads_to(self, method: str, rule: str) -> bool:
        is_below = not self.alone and rule.startswith(f"{self.path.rstrip('/')}/")
        return method in self.methods and (rule == self.path or is_below)


DOORS = (
    Door(READING, "/", None, alone=True),  # it leads to what is open
    Door(READING, "/healthz", None),
    Door(READING, "/readyz", None),
    Door(READING, "/docs", None),  # they say what the source says, and nothing of what is stored
    Door(READING, "/openapi.json", None),
    Door(READING, "/problems", None),
    Door(READING, "/console", None),  # it has a door of its own, for people: see `console.visitors`
    Door(WRITING, "/console", None),
    Door(WRITING, "/allocate", Scope.ALLOCATE),
    Door(WRITING, "/v1/allocations", Scope.ALLOCATE),
    Door(WRITING, "/add_batch", Scope.OPERATE),
    Door(WRITING, "/v1/batches", Scope.OPERATE),
    Door(READING, "/", Scope.READ),  # all that is left, `/metrics` among it
)
"""The first that leads to a route counts. What writes and is not here is refused to everybody: a test finds it."""


class NotDecided(LookupError):
    """Nobody has said who may use this route."""


@lru_cache
def scope_for(method: str, rule: str) -> Scope | None:
    """What a route needs, by its rule as it was declared, not as it was asked for. Raises NotDecided."""
    for door in DOORS:
        if door.leads_to(method, rule):
            return door.scope
    raise NotDecided(f"{method} {rule}")


@dataclass(frozen=True, slots=True)
class Doors:
    """Without a key ring they are open: whoever comes may do everything. `rate` is for keys that have none."""

    keys: KeyRing | None = None
    rate: int | None = None
    rates: Rates = field(default_factory=Rates)

    def let_in(self, method: str, rule: str | None, authorization: str | None) -> Principal | None:
        """Who asks, None at an open door. Raises an HTTPException for those who may not, and Unavailable.

        Whoever has no key is not told which routes there are.
        """
        assert self.keys, "asked for only where keys are"
        try:
            scope = scope_for(method, rule) if rule else None
        except NotDecided:
            raise Forbidden("nobody may do this yet; it is not in the table of doors") from None
        if rule and scope is None:
            return None
        principal = self._principal(authorization)
        if scope and not principal.may(scope):
            raise _MissingScope(principal, scope)
        rate = self.rate_of(principal)
        if rate and (seconds := self.rates.wait(principal.name, rate)):
            what = f"the key {principal.name!r} may send {rate} requests a second; wait, and send more slowly"
            raise TooManyRequests(what, retry_after=math.ceil(seconds))
        return principal

    def rate_of(self, principal: Principal) -> int | None:
        """Requests a second; None: as many as they like."""
        return principal.rate or self.rate

    def told_to_strangers(self, readiness: dict[str, str]) -> dict[str, str]:
        """Where keys are asked for, not which servers, users and revisions there are."""
        return {"status": readiness["status"]} if self.keys else readiness

    def _principal(self, authorization: str | None) -> Principal:
        kind, _, key = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            raise _NoKey("this needs an API key; send it as `Authorization: Bearer KEY`")
        assert self.keys
        principal = self.keys.principal_of(key.strip())
        if principal is None:
            which = f"the API key alk_{key_id}" if (key_id := id_of(key.strip())) else "this API key"
            raise _NoKey(f"nobody knows {which}, or it was revoked", error="invalid_token")
        return principal


OPEN = Doors()


def doors_of(settings: Settings, keys: KeyRing) -> Doors:
    return Doors(keys, settings.rate_of_keys) if settings.asks_for_keys else OPEN


def add_doors(app: Flask, doors: Doors) -> None:
    """After what makes `g.metadata`. From then on `g.metadata.principal` says who asks."""
    if not doors.keys:
        return
    said = Rates()  # once a second, however many knock

    @app.before_request
    def let_in() -> None:
        rule = request.url_rule.rule if request.url_rule else None
        try:
            g.principal = doors.let_in(request.method, rule, request.headers.get("Authorization"))
        except HTTPException as refusal:
            if not said.wait("refused", per_second=1):
                why = {"path": request.path, "address": request.remote_addr, "error": refusal.description}
                log.warning("refused at the door", extra=why)
            raise
        if g.principal:
            g.metadata = replace(g.metadata, principal=str(g.principal))


Header = tuple[str, str]


class _Challenge(HTTPException):
    """With the header by which RFC 6750 says what is wrong with a key."""

    challenge = ""

    def get_headers(self, *arguments: Any, **further: Any) -> list[Header]:
        return [*super().get_headers(*arguments, **further), ("WWW-Authenticate", f"Bearer {self.challenge}")]


class _NoKey(_Challenge, Unauthorized):
    def __init__(self, description: str, error: Literal["", "invalid_token"] = "") -> None:
        super().__init__(description)
        self.challenge = _parameters(("realm", "allocation"), ("error", error))


class _MissingScope(_Challenge, Forbidden):
    def __init__(self, principal: Principal, scope: Scope) -> None:
        has = ", ".join(sorted(principal.scopes))
        super().__init__(
            f"the key {principal.name!r} has not the scope {scope.value!r}, which this needs; it has {has}"
        )
        self.challenge = _parameters(("realm", "allocation"), ("error", "insufficient_scope"), ("scope", scope))


def _parameters(*pairs: Iterable[str]) -> str:
    return ", ".join(f'{name}="{value}"' for name, value in pairs if value)
